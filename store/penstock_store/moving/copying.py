"""Copying events from one store into another, in the source's order, until the target is level.

The one way by which events get into a target, also for a mirror: so the target holds a beginning of the
source at any moment, its readers skip nothing, and its newest event says where to go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Final

from penstock_schemas import RecordedEvent
from penstock_store._importing import StoodElsewhere
from penstock_store.appending import MAX_BATCH
from penstock_store.contract import EventReader, QueryOptions
from penstock_store.moving._standing import Standing, last_event, standing
from penstock_store.moving._targets import Put, target_of
from penstock_store.moving.report import CopyPlan, CopyProgress, CopyReport, OnProgress
from penstock_store.store_contract import Capability, EventStore
from penstock_store.store_errors import InvalidSettings, NotSupported

__all__ = ["DEFAULT_BATCH", "Copier", "copy_events", "plan_copy"]

_READS: Final = frozenset({Capability.ANY_QUERY})
_WRITES: Final = frozenset({Capability.ANY_BATCH})
DEFAULT_BATCH: Final = 5_000  # events; two batches are in memory at a time


class Copier:
    """Brings a target level with a source. Any number may work at once: batches are atomic, in order, and
    known by their keys or refused where another one was first.
    """

    def __init__(
        self,
        source: EventReader,
        target: EventStore,
        *,
        batch_size: int = DEFAULT_BATCH,
        from_start: bool = False,
        skip_corrupted: bool = False,
        skip_conflicts: bool = False,
    ) -> None:
        if not 1 <= batch_size <= MAX_BATCH:
            raise InvalidSettings(f"batch_size must be from 1 to {MAX_BATCH:,} events; got {batch_size!r}")
        _check(source, target)
        self._source, self._store = source, target
        self._target = target_of(target, skip_conflicts=skip_conflicts)
        self._batch_size = batch_size
        self._from_start = from_start
        self._skip_corrupted = skip_corrupted
        self._at: Standing | None = None
        self.report = CopyReport()

    async def close(self) -> None:
        """Give back what the copier itself opened; the stores stay open."""
        await self._target.close()

    async def finish(self) -> None:
        """The target is about to be written by others; also where an earlier copy, or none, filled it. Raises
        `StoreError`.
        """
        await self._target.finish()

    async def locate(self) -> Standing:
        """Where the target stands; looked up once, and again after `forget`."""
        if self._at is None:
            found = await standing(self._source, self._store, skip_corrupted=self._skip_corrupted)
            if self._from_start:  # once: from then on it goes forward
                self._from_start = False
                found = replace(found, after=0, keeps=found.keeps and not found.last)
            self._at = found
            self.report.position = found.after
        return self._at

    def forget(self) -> None:
        """Look again where the target stands: others may have stored, or a batch's end is not known."""
        self._at = None

    async def advance(self, tell: Callable[[], object] = lambda: None) -> int | None:
        """Copy what the source holds now; how many events were read, None where another copier was first and
        there may be more. `tell` is called after each batch.

        Raises `StoreError`; what was copied until then stays.
        """
        before = self.report.read
        try:
            await self._advance(tell)
        except StoodElsewhere:
            self.forget()
            return None
        except BaseException:
            self.forget()
            raise
        return self.report.read - before

    async def _advance(self, tell: Callable[[], object]) -> None:
        at = await self.locate()
        pending: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._batches(at.after)) as batches:
                async for batch in batches:
                    if pending is not None:
                        await pending
                        tell()
                    pending = asyncio.create_task(self._put(batch))
                    await asyncio.sleep(0)  # lets the request go out while the next batch is read
            if pending is not None:
                await pending
                tell()
        finally:
            if pending is not None and not pending.done():
                pending.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await pending

    async def _batches(self, after: int) -> AsyncGenerator[list[RecordedEvent], None]:
        options = QueryOptions(after_sequence=after, skip_corrupted=self._skip_corrupted)
        batch: list[RecordedEvent] = []
        async with aclosing(self._source.stream(options)) as events:
            async for event in events:
                batch.append(event)
                if len(batch) == self._batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _put(self, batch: list[RecordedEvent]) -> None:
        at = self._at
        assert at is not None  # noqa: S101  located before
        put = await self._target.put(batch, at)
        self._at = at.past(batch[-1].sequence, put.last)
        self._count(put, batch[-1].sequence)

    def _count(self, put: Put, position: int) -> None:
        report = self.report
        report.stored += put.stored
        report.duplicates += put.duplicates
        report.conflicts += put.conflicts
        report.sequences_kept += put.sequences_kept
        report.times_kept += put.times_kept
        report.position = position


async def copy_events(
    source: EventReader,
    target: EventStore,
    *,
    batch_size: int = DEFAULT_BATCH,
    from_start: bool = False,
    skip_corrupted: bool = False,
    skip_conflicts: bool = False,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Copy until the target holds what the source holds. Both are initialized and stay open.

    It may be interrupted at any moment, cancelled or killed: call it again. `from_start`: read the source
    from its first event though the target stands further, so that what is missing in between is found by its
    key. `skip_corrupted`: leave out what the source cannot be trusted with. `skip_conflicts`: leave out
    events whose key or id the target holds for something else. Memory: two batches. Raises
    `InvalidSettings`, `AppendConflict`, `CorruptedEvents` or another `StoreError`.
    """
    copier = Copier(
        source,
        target,
        batch_size=batch_size,
        from_start=from_start,
        skip_corrupted=skip_corrupted,
        skip_conflicts=skip_conflicts,
    )
    report, started = copier.report, time.monotonic()
    try:
        report.start = (await copier.locate()).after
        while True:
            newest = await last_event(source, skip_corrupted=skip_corrupted)
            end = newest.sequence if newest is not None else 0

            def tell(end: int = end) -> None:
                report.seconds = time.monotonic() - started
                if on_progress is not None:
                    on_progress(_progress(report, end))

            read = await copier.advance(tell)
            await copier.locate()
            if read is not None and read < batch_size:
                await copier.finish()
                return report
    finally:
        report.seconds = time.monotonic() - started
        await copier.close()


async def plan_copy(source: EventReader, target: EventStore, *, skip_corrupted: bool = False) -> CopyPlan:
    """What `copy_events` would do now, by reading all of the source. Raises `StoreError`."""
    _check(source, target)
    at = await standing(source, target, skip_corrupted=skip_corrupted)
    events = to_copy = 0
    async with aclosing(source.stream(QueryOptions(skip_corrupted=skip_corrupted))) as found:
        async for event in found:
            events += 1
            to_copy += event.sequence > at.after
    held = (await target.get_metrics()).events
    return CopyPlan(
        source_events=events,
        to_copy=to_copy,
        target_events=held,
        after_sequence=at.after,
        keeps_sequences=at.keeps,
        from_start_because_mixed=bool(at.last and not at.after),
    )


def _check(source: EventReader, target: EventStore) -> None:
    """Raises `NotSupported`."""
    for place, store, needed in (("source", source, _READS), ("target", target, _READS | _WRITES)):
        lacking = needed - getattr(store, "capabilities", needed)  # who only reads does not tell
        if lacking:
            raise NotSupported(
                f"a copy finds its place by event id and puts batches of many entities:"
                f" {type(store).__name__} cannot be its {place} (it lacks {', '.join(sorted(lacking))})"
            )


def _progress(report: CopyReport, end: int) -> CopyProgress:
    return CopyProgress(
        stored=report.stored,
        duplicates=report.duplicates,
        position=report.position,
        start=report.start,
        end=end,
    )
