"""Kafka: does it answer, and are the topics such that nothing gets lost?"""

from collections.abc import Iterator, Sequence

from confluent_kafka import KafkaException

from penstock.doctor.report import Finding, failed, fine, warned
from penstock.errors import ServerUnavailableError
from penstock.kafka_view import Cluster, KafkaView, Topic

__all__ = ["DEAD_LETTER_SLACK", "DEAD_LETTER_SUFFIX", "examine_kafka", "examine_topic"]

DEAD_LETTER_SUFFIX = ".dlq"
DEAD_LETTER_SLACK = 64 * 1024  # bytes: the headers that say why a record is there
_NAME = "Kafka"


def examine_kafka(view: KafkaView, names: Sequence[str]) -> tuple[list[Finding], Cluster | None, list[Topic]]:
    """The findings, and what was found: later checks compare PostgreSQL with it."""
    topics: list[Topic] = []
    try:
        cluster = view.cluster()
        findings = [_cluster(cluster)]
        for name in names:
            topic, letters = view.topic(name), view.topic(name + DEAD_LETTER_SUFFIX)
            findings.extend(examine_topic(name, topic, letters, brokers=len(cluster.brokers)))
            if topic is not None:
                topics.append(topic)
    except ServerUnavailableError as error:
        return [failed(_NAME, "reachable", error.what, error.advice)], None, topics
    except KafkaException as error:
        advice = "Grant Describe and DescribeConfigs, or correct PENSTOCK_KAFKA_CONFIG"
        return [failed(_NAME, "reachable", error.args[0].str(), advice)], None, topics
    return findings, cluster, topics


def _cluster(cluster: Cluster) -> Finding:
    version = f"protocol {cluster.version}" if cluster.version else "4.0 or newer"
    return fine(
        _NAME, "reachable", f"{', '.join(cluster.brokers)} · cluster {cluster.cluster_id} · {version}"
    )


def examine_topic(
    name: str, topic: Topic | None, letters: Topic | None, *, brokers: int
) -> Iterator[Finding]:
    """One topic and its dead-letter topic."""
    check = f"topic {name}"
    if topic is None:
        yield warned(_NAME, check, "does not exist", "The worker makes it when it starts: penstock worker")
        return
    kib = topic.max_message_bytes // 1024
    yield fine(
        _NAME, check, f"{topic.partitions} partitions of {topic.replicas} replica(s), records up to {kib} KiB"
    )
    if not topic.log_append_time:
        advice = (
            f"kafka-configs.sh --alter --entity-type topics --entity-name {name} "
            "--add-config message.timestamp.type=LogAppendTime"
        )
        yield warned(
            _NAME, f"{check}: time", "CreateTime: the producer's clock decides what retention deletes", advice
        )
    if topic.replicas < min(3, brokers):
        detail = f"{topic.replicas} replica of {brokers} brokers: a lost disk is lost data"
        yield warned(_NAME, f"{check}: replicas", detail, "Reassign its partitions with more replicas")
    yield _letters(name, topic, letters)


def _letters(name: str, topic: Topic, letters: Topic | None) -> Finding:
    check = f"topic {name}{DEAD_LETTER_SUFFIX}"
    if letters is None:
        return warned(_NAME, check, "does not exist", "The worker makes it when it starts: penstock worker")
    least = topic.max_message_bytes + DEAD_LETTER_SLACK
    if letters.max_message_bytes < least:
        return failed(
            _NAME,
            check,
            f"takes {letters.max_message_bytes:,} bytes, not {least:,}: a large bad record would stop all",
            f"kafka-configs.sh --alter --entity-type topics --entity-name {letters.name} "
            f"--add-config max.message.bytes={least}",
        )
    return fine(_NAME, check, f"takes {letters.max_message_bytes // 1024} KiB: a record and its cause fit")
