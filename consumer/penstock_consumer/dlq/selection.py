"""Which dead letters are meant: pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from penstock_consumer.dlq.letters import Letter, State

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All of what is given must hold; an empty collection and None hold for every dead letter."""

    states: Collection[State] = ()
    causes: Collection[str] = ()
    event_types: Collection[str] = ()
    """A record that cannot be decoded has no type, and is in no selection by type."""
    since: datetime | None = None
    """Dead-lettered at or after."""
    until: datetime | None = None
    """Dead-lettered before."""
    partition: int | None = None
    """Of the source topic; likewise offsets."""
    first_offset: int | None = None
    next_offset: int | None = None
    """The first offset that is not meant any more."""

    @property
    def narrows(self) -> bool:
        """Whether anything but the state is asked for."""
        return bool(self.causes or self.event_types) or any(
            one is not None
            for one in (self.since, self.until, self.partition, self.first_offset, self.next_offset)
        )

    def matches_place(self, letter: Letter) -> bool:
        """Whether coordinates, times and causes fit: what needs no decoding."""
        place = letter.place
        return (
            (not self.causes or letter.cause in self.causes)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and self.partition in (None, place.partition)
            and (self.first_offset is None or place.offset >= self.first_offset)
            and (self.next_offset is None or place.offset < self.next_offset)
        )

    def matches(self, letter: Letter) -> bool:
        """Whether everything fits."""
        return (
            (not self.states or letter.state in self.states)
            and self.matches_place(letter)
            and (not self.event_types or letter.event_type in self.event_types)
        )
