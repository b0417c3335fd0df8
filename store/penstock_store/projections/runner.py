"""Running a projection: catch up, then live, until stopped."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_store._patience import FIRST_PAUSE, longer, patiently
from penstock_store.checkpoint_errors import (
    CheckpointLost,
    InvalidProjection,
    ProjectionFailed,
    StateVersionDiffers,
)
from penstock_store.checkpoints import Checkpoint
from penstock_store.contract import QueryOptions
from penstock_store.projections._tables import TableSession, made, tables_of
from penstock_store.projections.definition import Projection, TableProjection, ValueProjection
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_contract import EventStore

__all__ = ["ProjectionRunner", "newest_sequence"]

_log = structlog.get_logger(__name__)


async def newest_sequence(store: EventStore) -> int:
    """Of the newest event there is now; 0 where there is none."""
    page = await store.get_events(QueryOptions(descending=True, limit=1))
    return page.events[0].sequence if page.events else 0


class ProjectionRunner:
    """Runs one projection. Where another process runs it, this one stands by, and goes on when that ends.

    `skip`: sequences of events to leave out. `accept_loss`: go on where retention dropped unread events.
    `done(count, sequence)` is called after each transaction.
    """

    def __init__(
        self,
        store: EventStore,
        projection: Projection,
        *,
        lease: float = 30.0,
        skip: Collection[int] = (),
        accept_loss: bool = False,
        done: Callable[[int, int], None] = lambda _count, _sequence: None,
    ) -> None:
        self._store = store
        self._projection = projection
        self._lease = lease
        self._skip = frozenset(skip)
        self._accept_loss = accept_loss
        self._done = done
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False

    def stop(self) -> None:
        """End at once; the batch under way is rolled back. Safe to call from a signal handler."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    async def run(self, *, once: bool = False) -> None:
        """Until `stop`, or, with `once`, until what is there now is done.

        Raises `ProjectionFailed` where the handler did, `StateVersionDiffers`, `EventsExpired`,
        `NotSupported`, `InvalidProjection`. It goes on through an absence of the server.
        """
        self._task = asyncio.current_task()
        options = self._projection.options
        try:
            if self._stopping:
                return
            if once:
                newest = await patiently(lambda: newest_sequence(self._store))
                options = options.replace(up_to_sequence=newest)
            await self._owning(options)
        except asyncio.CancelledError:
            if not self._stopping or self._task is None or self._task.uncancel():
                raise
        finally:
            self._task = None

    async def _owning(self, options: QueryOptions) -> None:
        name, pause = self._projection.name, FIRST_PAUSE
        while True:
            claim = self._store.checkpoint(
                self._projection.checkpoint,
                state_version=self._projection.version,
                lease=self._lease,
                wait=math.inf,
                accept_loss=self._accept_loss,
            )
            try:
                async with claim as checkpoint:
                    pause = FIRST_PAUSE
                    return await follow(
                        self._store,
                        self._projection,
                        checkpoint,
                        options,
                        self._lease,
                        self._skip,
                        self._done,
                    )
            except CheckpointLost as error:  # a standby from now on
                _log.warning("projection_superseded", projection=name, cause=str(error))
            except StoreUnavailable as error:
                _log.warning("projection_waits", projection=name, cause=str(error), retry_in_seconds=pause)
                await asyncio.sleep(pause)
                pause = longer(pause)
            except StateVersionDiffers as error:
                raise StateVersionDiffers(
                    f"projection {name}", kept=error.kept, wanted=error.wanted
                ) from None


async def follow(
    store: EventStore,
    projection: Projection,
    checkpoint: Checkpoint,
    options: QueryOptions,
    lease: float,
    skip: Collection[int],
    done: Callable[[int, int], None],
    *,
    schema: str | None = None,
) -> None:
    """Apply what `options` choose, from the checkpoint on. `schema`: where, if not in its own."""
    tables = tables_of(store, projection) if isinstance(projection, TableProjection) else None
    try:
        if tables is not None and schema is None:
            assert isinstance(projection, TableProjection)  # noqa: S101  tables is of one
            schema = await _ready(tables, projection, checkpoint)
        async with aclosing(checkpoint.batches(options)) as found:
            async for batch in found:
                if tables is None:
                    assert isinstance(projection, ValueProjection)  # noqa: S101  there are two kinds
                    await _fold(projection, checkpoint, batch.events, skip)
                else:
                    assert isinstance(projection, TableProjection)  # noqa: S101
                    assert schema is not None  # noqa: S101
                    await _Batches(tables, projection, checkpoint, schema, lease, skip).apply(batch.events)
                done(len(batch.events), checkpoint.sequence)
    finally:
        if tables is not None:
            await tables.close()


async def _ready(tables: TableSession, projection: TableProjection, checkpoint: Checkpoint) -> str:
    """Make the tables at the first start."""
    schema = projection.schema
    there = await patiently(lambda: tables.exists(schema))
    if not there and checkpoint.sequence:
        raise InvalidProjection(
            f"the projection {projection.name!r} stands at sequence {checkpoint.sequence:,}, but its schema"
            f" {schema} is gone. Rebuild it"
        )
    if not there:
        await made(tables, projection, checkpoint, schema, projection.setup, sequence=0)
    return schema


async def _fold(
    projection: ValueProjection,
    checkpoint: Checkpoint,
    events: Sequence[RecordedEvent],
    skip: Collection[int],
) -> None:
    state, last, failed = folded(projection, checkpoint.state, events, skip)
    if last is not None:
        sequence = last
        await patiently(lambda: checkpoint.save(sequence, state, state_version=projection.version))
    if failed is not None:
        raise failed


def folded(
    projection: ValueProjection,
    state: JsonValue,
    events: Sequence[RecordedEvent],
    skip: Collection[int] = (),
) -> tuple[Any, int | None, ProjectionFailed | None]:
    """The state, the last event in it, and what stopped it. What a failing fold did to it is undone."""
    result: Any = copy.deepcopy(projection.initial if state is None else state)
    for place, event in enumerate(events):
        if event.sequence in skip:
            continue
        try:
            result = _state_of(projection, projection.fold(result, event))
        except Exception as error:
            failed = ProjectionFailed(projection.name, event, error)
            failed.__cause__ = error
            result, last, _none = folded(projection, state, events[:place], skip)
            return result, last, failed
    return result, events[-1].sequence if events else None, None


def _state_of(projection: ValueProjection, state: Any) -> Any:
    """None is kept as no state at all: the next batch would begin with `initial` again."""
    if state is None and projection.initial is not None:
        raise InvalidProjection(
            f"the fold of {projection.name!r} returned None; it must return the new state. Does a `return"
            " state` lack? Where None is meant, choose another value for it"
        )
    return state


class _Batches:
    """Batches of one table projection under one claim."""

    def __init__(
        self,
        tables: TableSession,
        projection: TableProjection,
        checkpoint: Checkpoint,
        schema: str,
        lease: float,
        skip: Collection[int],
    ) -> None:
        self._tables = tables
        self._projection = projection
        self._checkpoint = checkpoint
        self._schema = schema
        self._lease = lease
        self._skip = skip

    async def apply(self, events: Sequence[RecordedEvent]) -> None:
        """In one transaction; where that fails in one for each, so that the event at fault is known."""
        try:
            await self._together(events)
        except (CheckpointLost, StoreUnavailable):
            raise
        except Exception as error:
            if len(events) == 1:
                raise ProjectionFailed(self._projection.name, events[0], error) from error
            for event in events:
                await self.apply([event])

    async def _together(self, events: Sequence[RecordedEvent]) -> None:
        last = events[-1].sequence

        async def work(connection: Any) -> None:
            for event in events:
                if event.sequence not in self._skip:
                    await self._projection.handle(connection, event)

        async def attempt() -> None:
            await self._tables.apply(self._checkpoint, self._schema, work, sequence=last, lease=self._lease)

        async def committed() -> bool:
            return await self._checkpoint.stands_at(last)

        await patiently(attempt, committed)
