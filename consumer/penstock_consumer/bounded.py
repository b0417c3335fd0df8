"""Reading a topic from here to there, apart from any group: for tools, not for workers. Blocking."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from penstock_consumer._kafka_config import READING_REFUSED, reader_config
from penstock_consumer.errors import SourceFailed, SourceUnavailable
from penstock_consumer.interfaces import Record
from penstock_consumer.settings import WorkerSettings

__all__ = ["Ends", "read", "watermarks"]

Ends = Mapping[int, tuple[int, int]]
"""By partition: the first offset that is there, or wanted, and the first that is not any more."""

_DEADLINE = 15.0  # seconds without any progress
_TOGETHER = 2_000  # records handed over at most


def watermarks(settings: WorkerSettings, topic: str) -> Ends | None:
    """What the broker holds of each partition of `topic` now; None where there is no such topic.

    Raises `SourceUnavailable`, `SourceFailed`.
    """
    consumer, where = _open(settings), settings.bootstrap_servers
    try:
        found = consumer.list_topics(topic, timeout=_DEADLINE).topics[topic]
        if found.error is not None:
            if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                return None
            raise _fault(where, topic, found.error)
        return {
            number: consumer.get_watermark_offsets(KafkaPartition(topic, number), timeout=_DEADLINE)
            for number in sorted(found.partitions)
        }
    except KafkaException as error:
        raise _fault(where, topic, error.args[0]) from error
    finally:
        consumer.close()


def read(
    settings: WorkerSettings, topic: str, ends: Ends, *, deadline: float = _DEADLINE
) -> Iterator[Sequence[Record]]:
    """The committed records of `topic` within `ends`, in the order of each partition.

    A partition is done when its end is reached or nothing follows: transaction markers and what compaction
    took are offsets without a record. Raises `SourceUnavailable` where a partition brings nothing for
    `deadline` seconds, `SourceFailed` where Kafka refuses.
    """
    left = {number: stop for number, (first, stop) in ends.items() if first < stop}
    if not left:
        return
    consumer, where = _open(settings), settings.bootstrap_servers
    try:
        consumer.assign([KafkaPartition(topic, number, ends[number][0]) for number in left])
        heard = time.monotonic()
        while left:
            first = consumer.poll(0.2)
            messages = [] if first is None else [first, *consumer.consume(_TOGETHER, 0)]
            good = _sort_out(messages, left, where, topic)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > deadline:
                numbers = ", ".join(map(str, sorted(left)))
                raise SourceUnavailable(
                    f"Kafka at {where} gives nothing of {topic} partition {numbers} for {deadline:g} s; "
                    "does each partition have a leader, and is no transaction open in it?"
                )
            if good:
                yield good
    except KafkaException as error:
        raise _fault(where, topic, error.args[0]) from error
    finally:
        consumer.close()


def _sort_out(messages: Sequence[Message], left: dict[int, int], where: str, topic: str) -> list[Record]:
    """Records within bounds. Takes partitions that are done out of `left`."""
    good: list[Record] = []
    for message in messages:
        number, error = message.partition(), message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.retriable() or error.code() == KafkaError._TRANSPORT:
                continue
            raise _fault(where, topic, error)
        if number is None or number not in left:
            continue
        offset = message.offset() or 0
        if error is not None:  # nothing follows for now, so nothing lies below the end that was asked for
            left.pop(number)
            continue
        if offset < left[number]:
            good.append(cast("Record", message))
        if offset >= left[number] - 1:
            left.pop(number)
    return good


def _open(settings: WorkerSettings) -> Consumer:
    try:
        return Consumer(dict(reader_config(settings)))
    except KafkaException as error:
        raise SourceFailed(f"librdkafka refuses the Kafka settings: {error}. Correct them") from error


def _fault(where: str, topic: str, error: KafkaError) -> SourceFailed | SourceUnavailable:
    if error.code() in READING_REFUSED:
        return SourceFailed(
            f"Kafka refuses to let {topic} be read: {error.str()}. Grant READ and DESCRIBE on it, or correct "
            "the credentials"
        )
    if error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
        return SourceUnavailable(f"{topic} lost records while it was read ({error.str()}); ask again")
    return SourceUnavailable(f"Kafka at {where} did not answer about {topic}: {error.str()}")
