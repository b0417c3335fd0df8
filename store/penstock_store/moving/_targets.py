"""Putting a batch into a target: by COPY with its sequences where the target can, else by appending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock_schemas import RecordedEvent
from penstock_store._importing import Importer, Imports, KeysTaken
from penstock_store.moving._standing import Standing
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import AppendConflict

__all__ = ["AppendTarget", "Put", "Target", "target_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What a batch came to. `stored` + `duplicates` + `conflicts` is its size."""

    stored: int
    duplicates: int = 0
    conflicts: int = 0
    sequences_kept: int = 0
    times_kept: int = 0
    last: int  # the sequence of the target's newest event, as far as this batch knows


class Target(Protocol):
    """Where events go. A batch that raises may be put again."""

    async def put(self, events: Sequence[RecordedEvent], at: Standing) -> Put: ...

    async def finish(self) -> None: ...

    async def close(self) -> None: ...


def target_of(store: EventStore, *, skip_conflicts: bool) -> Target:
    """The quickest and most faithful way into a store."""
    appending = AppendTarget(store, skip_conflicts=skip_conflicts)
    return _Importing(store.importer(), appending) if isinstance(store, Imports) else appending


class AppendTarget:
    """Any store. It gives each event a sequence and a time of its own; keys decide what is there already."""

    def __init__(self, store: EventStore, *, skip_conflicts: bool) -> None:
        self._store = store
        self._skip_conflicts = skip_conflicts

    async def finish(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to give back."""

    async def put(self, events: Sequence[RecordedEvent], at: Standing) -> Put:
        """Raises `AppendConflict` unless conflicts are skipped, or another `StoreError`."""
        remaining: Sequence[RecordedEvent] = events
        while True:
            try:
                results = await self._store.append_batch(remaining)
                break
            except AppendConflict as error:
                if not self._skip_conflicts or not error.places:
                    raise
                refused = set(error.places)  # by id the first of two that share one would go, too
                remaining = [event for place, event in enumerate(remaining) if place not in refused]
        pairs = list(zip(remaining, results, strict=True))
        stored = [(event, result) for event, result in pairs if result.stored]
        return Put(
            stored=len(stored),
            duplicates=len(pairs) - len(stored),
            conflicts=len(events) - len(pairs),
            sequences_kept=sum(event.sequence == result.sequence for event, result in stored),
            times_kept=sum(event.recorded_at == result.recorded_at for event, result in stored),
            last=max([at.last, *(result.sequence for result in results)]),
        )


class _Importing:
    """Takes sequences over while the target holds nothing but what came from the source so far."""

    def __init__(self, importer: Importer, appending: AppendTarget) -> None:
        self._importer = importer
        self._appending = appending

    async def finish(self) -> None:
        """What is appended from now on is of today."""
        await self._importer.finish()

    async def close(self) -> None:
        await self._importer.close()

    async def put(self, events: Sequence[RecordedEvent], at: Standing) -> Put:
        """Raises `StoodElsewhere` where another process stored meanwhile, or a `StoreError`."""
        if (
            not at.keeps
            or events[0].sequence <= at.last
            or events[-1].sequence > self._importer.most_sequence
        ):
            return await self._appending.put(events, at)
        last, times_kept, rest = at.last, 0, events
        try:
            while rest:
                done = await self._importer.put(rest, after=last)
                times_kept += done.times_kept
                last = rest[done.stored - 1].sequence if done.stored else last
                rest = rest[done.stored :]
        except KeysTaken:  # as where the source forgets keys after its window: what repeats is left out
            stored = len(events) - len(rest)
            put = await self._appending.put(rest, at)
            return Put(
                stored=stored + put.stored,
                duplicates=put.duplicates,
                conflicts=put.conflicts,
                sequences_kept=stored + put.sequences_kept,
                times_kept=times_kept + put.times_kept,
                last=max(last, put.last),
            )
        return Put(stored=len(events), sequences_kept=len(events), times_kept=times_kept, last=last)
