"""What a backend offers that takes events of another store over with their sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from penstock_schemas import RecordedEvent

__all__ = ["Imported", "Importer", "Imports", "KeysTaken", "StoodElsewhere"]


class StoodElsewhere(Exception):
    """The store's last event is not the one expected: somebody else has stored meanwhile. Look again."""


class KeysTaken(Exception):
    """A key or event id is stored already: only an append decides what that means."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What one batch came to: the first `stored` of its events are in."""

    stored: int
    times_kept: int  # of those, with the recorded_at that they had


class Importer(Protocol):
    """Puts batches above what is stored, each atomically."""

    @property
    def most_sequence(self) -> int:
        """The highest sequence that it takes over."""
        ...

    async def put(self, events: Sequence[RecordedEvent], *, after: int) -> Imported:
        """Store the first of `events`, as many as go in at once, above sequence `after`.

        `after`: the sequence of the last event in the store, 0 where it is empty; every event's is higher, in
        order. Raises `StoodElsewhere`, `KeysTaken`, or a `StoreError`; then nothing was stored.
        """
        ...

    async def finish(self) -> None:
        """What is appended from now on is of today. Raises a `StoreError`."""
        ...

    async def close(self) -> None:
        """Give back what it opened, in bounded time."""
        ...


@runtime_checkable
class Imports(Protocol):
    """A store that has an importer; the caller closes it."""

    def importer(self) -> Importer: ...
