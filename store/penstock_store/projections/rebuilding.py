"""Rebuilding a projection beside the one that is read, and putting it in its place in one step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_store.checkpoint_errors import EventsExpired, InvalidProjection
from penstock_store.checkpoints import Checkpoint
from penstock_store.projections._tables import made, tables_of
from penstock_store.projections.definition import Projection, TableProjection, ValueProjection
from penstock_store.projections.runner import folded, follow
from penstock_store.store_contract import EventStore, Snapshot

__all__ = ["Rebuilt", "rebuild"]

_LEASE: Final = 30.0  # seconds
_BATCH: Final = 500  # events


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did."""

    name: str
    version: int
    start: int  # the sequence that it began after
    sequence: int  # where the projection stands, as it did before
    events: int


async def rebuild(
    store: EventStore,
    projection: Projection,
    *,
    snapshot: str | None = None,
    skip: Collection[int] = (),
    accept_loss: bool = False,
    done: Callable[[int, int], None] = lambda _count, _sequence: None,
) -> Rebuilt:
    """Make the projection again up to where it stands, from the first event, or from the snapshot under this
    key and the projection's version.

    Readers see the old result until the new one is complete, and then that. A runner may go on meanwhile: it
    is superseded for the last step only, and goes on afterwards, unless its code is of another version.
    `skip`: as of `ProjectionRunner`, sequences of events to leave out. One that is interrupted can be called
    again; of a table it goes on where it was, if version, snapshot and skip are the same. Raises as
    `ProjectionRunner.run`, `CheckpointHeld` where another rebuild runs, and `EventsExpired` where retention
    dropped what it would begin with.
    """
    start = await _start(store, projection, snapshot)
    after = start.sequence if start is not None else 0
    expired = await store.checkpoint_records().expired_through()
    if expired > after and not accept_loss:
        what = f"the beginning of a rebuild of the projection {projection.name!r}"
        raise EventsExpired(what, position=after, expired_through=expired)
    count = 0

    def counted(events: int, sequence: int) -> None:
        nonlocal count
        count += events
        done(events, sequence)

    if isinstance(projection, TableProjection):
        sequence = await _table(store, projection, start, snapshot, skip, counted)
    else:
        assert isinstance(projection, ValueProjection)  # noqa: S101  there are two kinds
        sequence = await _value(store, projection, start, expired, skip, counted)
    return Rebuilt(
        name=projection.name, version=projection.version, start=after, sequence=sequence, events=count
    )


async def _start(store: EventStore, projection: Projection, key: str | None) -> Snapshot | None:
    if key is None:
        return None
    if isinstance(projection, TableProjection) and projection.seed is None:
        raise InvalidProjection(
            f"the projection {projection.name!r} has no seed=…, which fills its tables from a snapshot"
        )
    found = await store.get_snapshot(key, state_version=projection.version)
    if found is None:
        raise InvalidProjection(
            f"there is no snapshot {key!r} of state version {projection.version}. Rebuild from the start, or"
            " correct the key"
        )
    return found


def _live(store: EventStore, projection: Projection) -> Checkpoint:
    return store.checkpoint(
        projection.checkpoint, state_version=None, lease=_LEASE, take=True, accept_loss=True
    )


async def _stands(store: EventStore, projection: Projection) -> int:
    kept = await store.get_checkpoint(projection.checkpoint)
    return kept.sequence if kept is not None else 0


async def _value(
    store: EventStore,
    projection: ValueProjection,
    start: Snapshot | None,
    accepted: int,
    skip: Collection[int],
    done: Callable[[int, int], None],
) -> int:
    """`accepted`: events up to there may be missing, retention had dropped them before."""
    state: Any = copy.deepcopy(projection.initial if start is None else start.state)
    at = 0 if start is None else start.sequence

    async def catch_up(target: int) -> None:
        nonlocal state, at
        options = projection.options.replace(after_sequence=at, up_to_sequence=target)
        events: list[RecordedEvent] = []
        async with aclosing(store.stream(options)) as found:
            async for event in found:
                events.append(event)
                if len(events) == _BATCH:
                    state = _folded(projection, state, events, skip, done)
                    events = []
        state = _folded(projection, state, events, skip, done)
        # Looked up after reading: what is dropped in between counts as not read, rather a false alarm.
        expired = await store.checkpoint_records().expired_through()
        if expired > max(at, accepted):
            what = f"the rebuild of the projection {projection.name!r}"
            raise EventsExpired(what, position=at, expired_through=expired)
        at = max(at, target)

    await catch_up(await _stands(store, projection))
    async with _live(store, projection) as live:
        await catch_up(live.sequence)
        await live.save(at, state, state_version=projection.version)
    return at


def _folded(
    projection: ValueProjection,
    state: Any,
    events: list[RecordedEvent],
    skip: Collection[int],
    done: Callable[[int, int], None],
) -> Any:
    if not events:
        return state
    result, last, failed = folded(projection, state, events, skip)
    if failed is not None:
        raise failed
    done(len(events), last or 0)
    return result


async def _table(
    store: EventStore,
    projection: TableProjection,
    start: Snapshot | None,
    snapshot: str | None,
    skip: Collection[int],
    done: Callable[[int, int], None],
) -> int:
    schema, built = projection.schema, f"{projection.schema}__new"
    tables = tables_of(store, projection)
    # One for all versions, as they are built in one place.
    shadow_claim = store.checkpoint(
        f"{projection.checkpoint}/rebuild", lease=_LEASE, wait=0, accept_loss=True
    )
    begun: JsonValue = {"version": projection.version, "snapshot": snapshot, "skip": [*sorted(skip)]}

    async def catch_up(shadow: Checkpoint, target: int) -> None:
        if target > shadow.sequence:
            options = projection.options.replace(up_to_sequence=target)
            await follow(store, projection, shadow, options, _LEASE, skip, done, schema=built)

    try:
        async with shadow_claim as shadow:
            if shadow.state != begun or not await tables.exists(built):  # else it goes on
                await made(
                    tables,
                    projection,
                    shadow,
                    built,
                    _filled(projection, start),
                    sequence=0 if start is None else start.sequence,
                    state=begun,
                )
            await catch_up(shadow, await _stands(store, projection))
            async with _live(store, projection) as live:
                await catch_up(shadow, live.sequence)
                if shadow.sequence > live.sequence:  # it began with a snapshot further on
                    await live.save(shadow.sequence)
                await tables.swap(live, shadow, schema, built, projection.version)
                sequence = live.sequence
            shadow.lost(None)  # it is gone, and nothing is left to give back
    finally:
        await tables.close()
    return sequence


def _filled(projection: TableProjection, start: Snapshot | None) -> Callable[[Any], Any]:
    async def fill(connection: Any) -> None:
        await projection.setup(connection)
        if start is not None:
            assert projection.seed is not None  # noqa: S101  checked by _start
            await projection.seed(connection, start.state)

    return fill
