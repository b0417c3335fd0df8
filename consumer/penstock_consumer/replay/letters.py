"""Dead letters of a replay: each record has one, so what the dead-letter topic holds already is not sent
again.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import structlog

from penstock_consumer import bounded
from penstock_consumer._thread import OneThread
from penstock_consumer.dead_letters import KafkaDeadLetters
from penstock_consumer.dlq.letters import Letter, read_letter
from penstock_consumer.errors import DeadLettersUnavailable, SourceUnavailable
from penstock_consumer.interfaces import DeadLetter
from penstock_consumer.settings import WorkerSettings

__all__ = ["NewLetters", "NoLetters"]

log = structlog.get_logger(__name__)


class _Where(NamedTuple):
    """What tells one record's dead letter from another's: the timestamp from that of a topic's namesake."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class NewLetters:
    """A `DeadLetterSink`: sends those of which the dead-letter topic has none by the same group.

    It is read once, with the first bad record; in memory stays what concerns `partitions`.
    """

    def __init__(self, settings: WorkerSettings, partitions: Collection[tuple[str, int]]) -> None:
        self._settings = settings
        self._partitions = frozenset(partitions)
        self._letters = KafkaDeadLetters(settings)
        self._thread = OneThread("dead-letters-there")
        self._there: dict[str, set[_Where]] = {}

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink`."""
        for topic in {letter.record.topic() for letter in letters} - self._there.keys():
            try:
                self._there[topic] = await self._thread.run(self._read, topic)
            except SourceUnavailable as error:
                raise DeadLettersUnavailable(str(error)) from error
        new = [letter for letter in letters if _where(letter) not in self._there[letter.record.topic()]]
        if len(new) < len(letters):
            log.info("dead_letters_there", count=len(letters) - len(new))
        if new:
            await self._letters.send(new)

    async def close(self) -> None:
        """See `KafkaDeadLetters`."""
        self._thread.close()
        await self._letters.close()

    def _read(self, topic: str) -> set[_Where]:
        name = self._settings.dead_letter_topic(topic)
        found: set[_Where] = set()
        for records in bounded.read(self._settings, name, bounded.watermarks(self._settings, name) or {}):
            for letter in map(read_letter, records):
                if letter is not None and self._concerns(letter):
                    stamp = 0 if letter.timestamp is None else round(letter.timestamp.timestamp() * 1000)
                    found.add(_Where(letter.place.topic, letter.place.partition, letter.place.offset, stamp))
        return found

    def _concerns(self, letter: Letter) -> bool:
        ours = (letter.place.topic, letter.place.partition) in self._partitions
        return ours and letter.group == self._settings.group_id


class NoLetters:
    """A `DeadLetterSink` for a rebuild beside the store, which must leave no trace in Kafka."""

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink`."""

    async def close(self) -> None:
        """Nothing to close."""


def _where(letter: DeadLetter) -> _Where:
    record = letter.record
    kind, timestamp = record.timestamp()
    return _Where(record.topic(), record.partition(), record.offset(), timestamp if kind else 0)
