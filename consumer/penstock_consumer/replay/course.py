"""Where a replay is: what it was asked for, the gap that each partition reads now, how far that has come.

The source writes down what it hands over, the sink asks for it when a gap was read to its end. Both run in
the engine's intake, one call at a time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock_consumer.interfaces import PartitionState, TopicPartition

__all__ = ["Course", "Reading"]


@dataclass(slots=True)
class Reading:
    """One gap while it is read."""

    next: int
    """Its end: the first offset that is not read."""
    handed: int
    """Every record below this offset was handed over since the gap last began to flow."""
    through: bool = False
    """Nothing of the gap follows any more."""


class Course:
    """`asked`: offsets [first, next) by partition."""

    def __init__(self, asked: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self._asked = dict(asked)
        self._there: dict[TopicPartition, PartitionState] = {}
        self.readings: dict[TopicPartition, Reading] = {}
        self._open = set(asked)

    @property
    def partitions(self) -> list[TopicPartition]:
        """All that were asked for."""
        return list(self._asked)

    @property
    def finished(self) -> bool:
        """No partition has a gap left."""
        return not self._open

    def there(self, states: Mapping[TopicPartition, PartitionState]) -> None:
        """The broker said what it has."""
        self._there |= states

    def bounds(self, partition: TopicPartition) -> tuple[int, int, int]:
        """(first, next, low): what was asked for, up to the end of the log, and where the log begins."""
        first, end = self._asked[partition]
        state = self._there[partition]
        return first, max(first, min(end, state.high)), state.low

    def begin(self, partition: TopicPartition, first: int, end: int) -> None:
        """A gap is about to be read."""
        self.readings[partition] = Reading(end, first)

    def flows(self, starts: Mapping[TopicPartition, int]) -> None:
        """These are fetched from there; what was handed over beyond comes again."""
        for partition, offset in starts.items():
            if reading := self.readings.get(partition):
                reading.handed, reading.through = offset, False

    def done(self, partitions: Iterable[TopicPartition]) -> None:
        """Nothing is left to read of these."""
        for partition in partitions:
            self.readings.pop(partition, None)
            self._open.discard(partition)

    def through(self) -> list[TopicPartition]:
        """Those whose gap was read to its end."""
        return [partition for partition, reading in self.readings.items() if reading.through]
