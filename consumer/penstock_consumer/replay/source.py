"""Kafka as the `Source` of a replay: no member of the group, it assigns itself, one gap of a partition at a
time.
"""

from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, Message

from penstock_consumer.errors import SourceFailed
from penstock_consumer.interfaces import Clock, Inspected, PartitionState, Record, TopicPartition
from penstock_consumer.kafka_source import DAMAGED, KafkaSource
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.replay.course import Course
from penstock_consumer.settings import WorkerSettings

__all__ = ["ReplaySource"]

_CHUNK = 0.5  # seconds of records at a time where the rate is limited


class ReplaySource(KafkaSource):
    """Hands over the records of the gaps in `course`; calls `finished` when none is left. `rate`: records a
    second at most.
    """

    _more = {"enable.partition.eof": True}  # noqa: RUF012

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        course: Course,
        clock: Clock,
        *,
        rate: float | None,
        finished: Callable[[], None],
    ) -> None:
        super().__init__(settings, metrics)
        self._course = course
        self._clock = clock
        self._rate = rate
        self._finished = finished
        self._due = clock.monotonic()
        self._ends: list[tuple[TopicPartition, int]] = []

    def _join(self, consumer: Consumer) -> None:
        self._loop.call_soon_threadsafe(self._listener.assigned, self._course.partitions)

    async def fetch(self, limit: int, wait: float, linger: float) -> Sequence[Record]:
        """See `Source`. A gap that was read to its end is given up here, as a partition that is revoked: the
        engine writes what it has of it, and claims the next one.
        """
        through = self._course.through()
        if through:
            await self.hold(through)
            await self._listener.revoked(through)
            self._listener.assigned(through)
            return []
        if self._course.finished:
            self._finished()
            return []
        allowed = await self._paced(limit, wait)
        if not allowed:
            return []
        records = self._within(await super().fetch(allowed, wait, linger))
        self._note_ends()  # after the records that came with them
        if self._rate is not None:
            self._due = max(self._due, self._clock.monotonic() - _CHUNK) + len(records) / self._rate
        return records

    async def _paced(self, limit: int, wait: float) -> int:
        """How many records may be fetched now; waits for its turn, at most `wait` seconds."""
        if self._rate is None:
            return limit
        early = self._due - self._clock.monotonic()
        if early > 0:
            await self._clock.sleep(min(early, wait))
            if early > wait:
                return 0
        return max(1, min(limit, int(self._rate * _CHUNK)))

    def _within(self, records: Sequence[Record]) -> Sequence[Record]:
        readings, good = self._course.readings, []
        for record in records:
            reading = readings.get(TopicPartition(record.topic(), record.partition()))
            if reading is None or reading.through:
                continue
            following = record.offset() + 1
            if following <= reading.next:
                good.append(record)
                reading.handed = max(reading.handed, following)
            reading.through = following >= reading.next
        return good

    def _note_error(self, message: Message) -> None:
        error, topic, partition = message.error(), message.topic(), message.partition()
        if error is None or topic is None or partition is None:
            super()._note_error(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._ends.append((TopicPartition(topic, partition), message.offset() or 0))
        elif error.code() in DAMAGED:
            raise SourceFailed(
                f"{topic} partition {partition} cannot be read: {error.str()}. What came before it is "
                "written; repair the topic's log, then run the replay again"
            )
        else:
            super()._note_error(message)

    def _note_ends(self) -> None:
        ends, self._ends = self._ends, []
        for partition, offset in ends:
            reading = self._course.readings.get(partition)
            if reading is not None and offset >= reading.next:
                reading.through = True

    async def flow(self, starts: Mapping[TopicPartition, int]) -> None:
        """See `Source`."""
        self._course.flows(starts)
        await super().flow(starts)

    async def inspect(self, partitions: Sequence[TopicPartition]) -> Inspected:
        """See `Source`."""
        states = await super().inspect(partitions)
        self._course.there({
            name: state for name, state in states.items() if isinstance(state, PartitionState)
        })  # fmt: skip
        return states

    def publish(self, positions: Mapping[TopicPartition, int]) -> None:
        """Nobody: the group's offsets are its workers'."""
