"""The dead letters of one topic: read, count, send back, put aside. Blocking; one object per use.

Nothing is ever deleted here, and nothing is kept anywhere but in the dead-letter topic: its dead letters
and its marks (see `letters`) are all there is to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from penstock_consumer.bounded import Ends, read, watermarks
from penstock_consumer.dlq.letters import Letter, Mark, Place, State, read_letter, read_mark
from penstock_consumer.dlq.selection import Selection
from penstock_consumer.interfaces import Record
from penstock_consumer.settings import WorkerSettings

__all__ = ["DeadLetterQueue", "Progress", "Statistics", "TypeOf"]

Progress = Callable[[int, int], None]
"""Told how many offsets of the dead-letter topic were read, and how many there are."""
TypeOf = Callable[[Letter], str | None]
"""The event type of a dead letter, None where it cannot be decoded. May ask a registry."""


@dataclass(slots=True, kw_only=True)
class Statistics:
    """Dead letters of a topic, each counted once."""

    states: Counter[State] = field(default_factory=Counter)
    causes: Counter[tuple[str, State]] = field(default_factory=Counter)
    event_types: Counter[tuple[str | None, State]] = field(default_factory=Counter)
    repeats: int = 0
    """Second dead letters of a record that was counted."""
    foreign: int = 0
    """Records of the dead-letter topic that name no source, or another topic: another program's."""


def _unheard(_read: int, _all: int) -> None:
    pass


class DeadLetterQueue:
    """The dead-letter topic of `topic`. `settings` say where Kafka is and how dead-letter topics are called.

    Memory: about 200 bytes for each dead letter, to know a second one of the same record. Every method
    raises `SourceUnavailable` and `SourceFailed`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        topic: str,
        *,
        type_of: TypeOf | None = None,
        progress: Progress = _unheard,
    ) -> None:
        self.settings = settings
        self.topic = topic
        self.name = settings.dead_letter_topic(topic)
        self._type_of = type_of
        self._progress = progress
        self.expired = 0
        """Offsets that the dead-letter topic does not hold any more, once it was read."""
        self.foreign = 0
        """Records that are no dead letters of this topic, of those that were read."""
        self._repeats = 0

    def exists(self) -> bool:
        """Whether there is a dead-letter topic: the worker makes it when it starts."""
        return watermarks(self.settings, self.name) is not None

    def letters(self, selection: Selection | None = None) -> Iterator[Letter]:
        """Those that are meant, each once, with their state, in the order of the dead-letter topic.

        The topic is read twice, up to where it ends now: what became of a dead letter stands behind it.
        """
        wanted = selection or Selection()
        ends = watermarks(self.settings, self.name) or {}
        marks = {mark.place: mark for mark in self._marks(ends)}
        seen: set[Place] = set()
        self._repeats = self.foreign = 0
        self.expired = sum(low for low, _ in ends.values())
        for record in self._records(ends, half=1):
            letter = self._letter(record)
            if letter is None:
                self.foreign += read_mark(record) is None
            elif letter.place in seen:
                self._repeats += 1
            else:
                seen.add(letter.place)
                known = self._with_state(letter, marks.get(letter.place), wanted)
                if known is not None:
                    yield known

    def find(self, partition: int, offset: int) -> list[Letter]:
        """Those of one record of the source topic; more than one where the topic was made anew since."""
        return list(self.letters(Selection(partition=partition, first_offset=offset, next_offset=offset + 1)))

    def places(self, group: str) -> Iterator[tuple[Place, str]]:
        """Each record that the workers of `group` gave up, once, with the cause; whatever became of it."""
        ends = watermarks(self.settings, self.name) or {}
        self.expired = sum(low for low, _ in ends.values())
        seen: set[Place] = set()
        for record in self._records(ends, half=0):
            letter = self._letter(record)
            if letter is not None and letter.group == group and letter.place not in seen:
                seen.add(letter.place)
                yield letter.place, letter.cause

    def statistics(self, selection: Selection | None = None) -> Statistics:
        """How many there are, by state, cause and event type."""
        found = Statistics()
        for letter in self.letters(selection):
            found.states[letter.state] += 1
            found.causes[letter.cause, letter.state] += 1
            found.event_types[letter.event_type, letter.state] += 1
        found.repeats, found.foreign = self._repeats, self.foreign
        return found

    def _letter(self, record: Record) -> Letter | None:
        """None also for one that names another topic: ours is the only one that we may write to."""
        letter = read_letter(record)
        return None if letter is None or letter.place.topic != self.topic else letter

    def _with_state(self, letter: Letter, mark: Mark | None, wanted: Selection) -> Letter | None:
        """The letter as it is shown, or None where it is not meant. Decoded only where all else fits."""
        state = State.OPEN if mark is None else mark.state
        if not wanted.matches_place(letter) or (wanted.states and state not in wanted.states):
            return None
        event_type = self._type_of(letter) if self._type_of else None
        letter = replace(letter, state=state, mark=mark, event_type=event_type)
        return letter if wanted.matches(letter) else None

    def _marks(self, ends: Ends) -> Iterator[Mark]:
        for record in self._records(ends, half=0):
            mark = read_mark(record)
            if mark is not None:
                yield mark

    def _records(self, ends: Ends, *, half: int) -> Iterator[Record]:
        sizes = {number: stop - first for number, (first, stop) in ends.items()}
        whole, done = sum(sizes.values()), dict.fromkeys(ends, 0)
        self._progress(half * whole, 2 * whole)
        for records in read(self.settings, self.name, ends):
            yield from records
            self._note(records, ends, done)
            self._progress(half * whole + sum(done.values()), 2 * whole)
        self._progress((half + 1) * whole, 2 * whole)

    @staticmethod
    def _note(records: Sequence[Record], ends: Ends, done: dict[int, int]) -> None:
        last: Mapping[int, int] = {record.partition(): record.offset() for record in records}
        for number, offset in last.items():
            done[number] = offset + 1 - ends[number][0]
