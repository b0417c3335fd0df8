"""What Kafka says of itself: cluster, topics, ends of partitions. Reads only, with deadlines."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition

# The package names no __all__: its own documentation imports these from here.
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]

from penstock.errors import ServerUnavailableError

__all__ = ["Cluster", "KafkaView", "Topic"]

_Result = TypeVar("_Result")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSENT = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID)
_SLACK = 2.0  # seconds beyond librdkafka's own deadline, for its answer to arrive
# librdkafka writes connection errors to stderr by itself; the exception says it once, in words.
_log = logging.getLogger("penstock.kafka.client")
_log.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`version` is the broker's metadata protocol where it states one, else None (Kafka 4 states none)."""

    cluster_id: str
    brokers: tuple[str, ...]
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic that exists; `config` holds its effective settings as text."""

    name: str
    topic_id: str
    partitions: int
    replicas: int
    config: Mapping[str, str]

    @property
    def log_append_time(self) -> bool:
        """Whether the broker's clock stamps the records."""
        return self.config.get("message.timestamp.type") == "LogAppendTime"

    @property
    def max_message_bytes(self) -> int:
        """The largest batch of records that the broker takes."""
        return int(self.config.get("max.message.bytes", 0))


class KafkaView:
    """Asks one cluster. `config` holds librdkafka settings, `timeout` is in seconds for each request.

    Raises `ServerUnavailableError` where no broker answers in time.
    """

    def __init__(self, config: Mapping[str, str | int | float | bool], *, timeout: float) -> None:
        self._servers = config["bootstrap.servers"]
        self._timeout = timeout
        self._admin = AdminClient({"client.id": "penstock-view", **config}, logger=_log)

    def cluster(self) -> Cluster:
        """The cluster's id and brokers."""
        found = self._wait(self._admin.describe_cluster(request_timeout=self._timeout))
        nodes = found.nodes
        config = self._config(ConfigResource.Type.BROKER, str(nodes[0].id)) if nodes else {}
        return Cluster(
            cluster_id=str(found.cluster_id),
            brokers=tuple(f"{node.host}:{node.port}" for node in nodes),
            version=config.get("inter.broker.protocol.version"),
        )

    def topic(self, name: str) -> Topic | None:
        """The topic, or None where the cluster has none of that name."""
        asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=self._timeout)
        try:
            found = self._wait(asked[name])
        except KafkaException as error:
            if error.args[0].code() in _ABSENT:
                return None
            raise
        return Topic(
            name=name,
            topic_id=str(found.topic_id),
            partitions=len(found.partitions),
            replicas=min(len(partition.replicas) for partition in found.partitions),
            config=self._config(ConfigResource.Type.TOPIC, name),
        )

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        """The next offset of each partition."""
        return self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def start_offsets(self, topic: Topic) -> dict[int, int]:
        """The first offset of each partition that the broker still has."""
        return self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def offsets_at(self, topic: Topic, at: datetime) -> dict[int, int]:
        """The first offset of each partition whose timestamp is `at` or later; negative where none is."""
        # The broker knows no time before the epoch, and has no record of one.
        milliseconds = max(0, -(-(at - _EPOCH) // timedelta(milliseconds=1)))
        return self._offsets(topic, OffsetSpec.for_timestamp(milliseconds))

    def _offsets(self, topic: Topic, which: OffsetSpec) -> dict[int, int]:
        wanted = {TopicPartition(topic.name, number): which for number in range(topic.partitions)}
        asked = self._admin.list_offsets(wanted, request_timeout=self._timeout)
        return {place.partition: self._wait(future).offset for place, future in asked.items()}

    def _config(self, kind: Any, name: str) -> dict[str, str]:
        resource = ConfigResource(kind, name)
        asked = self._admin.describe_configs([resource], request_timeout=self._timeout)
        entries = self._wait(asked[resource])
        return {key: entry.value for key, entry in entries.items() if entry.value is not None}

    def _wait(self, future: "Future[_Result]") -> _Result:
        try:
            return future.result(self._timeout + _SLACK)
        except TimeoutError:
            raise self._away("no answer") from None
        except KafkaException as error:
            fault = error.args[0]
            if fault.code() < 0 or fault.retriable():
                raise self._away(fault.str()) from error
            raise

    def _away(self, said: str) -> ServerUnavailableError:
        return ServerUnavailableError(
            f"Kafka at {self._servers} does not answer within {self._timeout:g} s ({said}).",
            "Start it (`penstock up`), or correct PENSTOCK_KAFKA_BOOTSTRAP_SERVERS and "
            "PENSTOCK_KAFKA_CONFIG.",
        )
