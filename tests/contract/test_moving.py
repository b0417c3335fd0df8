"""Copying from every backend to every other: each event once, the same, in order, however often begun."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fixtures.event_stores import BACKENDS, needs
from fixtures.history import random_event
from penstock_schemas import Event, RecordedEvent
from penstock_store.backends import create_event_store
from penstock_store.contract import QueryOptions
from penstock_store.moving import CopyProgress, compare_stores, copy_events, plan_copy
from penstock_store.store_contract import Capability, EventStore
from penstock_store.store_errors import AppendConflict, InvalidSettings

pytestmark = needs(Capability.ANY_BATCH, Capability.ANY_QUERY)
Pair = tuple[EventStore, EventStore]


def _settings(backend: str, role: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    if backend == "postgresql":
        return {"dsn": request.getfixturevalue("database" if role == "to" else "other_database").writer_url}
    return {"directory": folder / role} if backend == "file" else {}


every_pair = pytest.mark.parametrize(
    "pair", list(product(BACKENDS, BACKENDS)), ids="-to-".join, indirect=True
)


@pytest.fixture(
    params=[("file", "postgresql"), ("postgresql", "file"), ("memory", "memory")], ids="-to-".join
)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two empty stores."""
    source, target = request.param
    async with AsyncExitStack() as opened:
        stores = [
            await opened.enter_async_context(
                create_event_store(name, **_settings(name, role, request, tmp_path))
            )
            for name, role in ((source, "from"), (target, "to"))
        ]
        yield stores[0], stores[1]


async def _fill(store: EventStore, count: int, seed: int = 1) -> None:
    rng = random.Random(seed)
    odd = [{"n": 1e16}, {"n": -0.0}, {"n": 2**70}, {"n": 5e-324}, {"s": "\\u0000 „€“ \\"}]
    for start in range(0, count, 40):
        size = min(40, count - start)
        events = [random_event(rng) for _ in range(size)]
        events[0] = events[0].model_copy(update={"payload": odd[start // 40 % len(odd)]})
        await store.append_batch(events)


async def _all(store: EventStore) -> list[RecordedEvent]:
    return [event async for event in store.stream()]


@every_pair
async def test_a_copy_holds_the_same_events_in_the_same_places(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 230)
    report = await copy_events(source, target, batch_size=50)
    assert (report.stored, report.duplicates, report.conflicts) == (230, 0, 0)
    assert report.sequences_kept == 230  # a source without gaps numbers the same way everywhere
    found = await compare_stores(source, target, patience=0.2)
    assert found.equal
    assert found.same_order
    assert found.same_sequences
    assert (found.source_events, found.target_events, found.examples) == (230, 230, ())


async def test_a_repeat_copies_what_is_new(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 90)
    await copy_events(source, target)
    await _fill(source, 30, seed=2)
    again = await copy_events(source, target)
    assert (again.start, again.stored, again.duplicates) == (90, 30, 0)
    nothing = await copy_events(source, target)
    assert (nothing.stored, nothing.duplicates, nothing.position) == (0, 0, 120)
    assert (await compare_stores(source, target, patience=0.2)).equal


async def test_a_dry_run_counts_and_changes_nothing(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 60)
    plan = await plan_copy(source, target)
    assert (plan.source_events, plan.to_copy, plan.target_events) == (60, 60, 0)
    assert plan.keeps_sequences
    assert await _all(target) == []
    await copy_events(source, target)
    assert (await plan_copy(source, target)).to_copy == 0


async def test_it_goes_on_after_being_cancelled_in_any_batch(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 240)
    for batches in range(1, 5):
        task = asyncio.current_task()

        def stop(progress: CopyProgress, batches: int = batches, task: Any = task) -> None:
            if progress.stored >= 10 * batches:
                task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await copy_events(source, target, batch_size=10, on_progress=stop)
        assert task is not None
        task.uncancel()
        held = await _all(target)  # a beginning of the source, whatever was under way
        assert [e.event_id for e in held] == [e.event_id for e in (await _all(source))[: len(held)]]
    await copy_events(source, target, batch_size=10)
    assert (await compare_stores(source, target, patience=0.2)).equal


async def test_two_copies_at_once_store_each_event_once(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 200)
    await asyncio.gather(*(copy_events(source, target, batch_size=size) for size in (7, 10)))
    found = await compare_stores(source, target, patience=0.2)
    assert found.equal
    assert found.same_order


async def test_a_target_with_events_of_its_own_takes_the_others(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 50)
    shared = (await _all(source))[7]
    await target.append(Event(**{n: getattr(shared, n) for n in Event.model_fields}))
    own = await target.append(Event(event_type="own", entity_id="own"))
    plan = await plan_copy(source, target)
    assert plan.from_start_because_mixed
    assert not plan.keeps_sequences
    report = await copy_events(source, target, batch_size=20)
    assert (report.stored, report.duplicates) == (49, 1)
    found = await compare_stores(source, target, patience=0.2)
    assert found.complete
    assert not found.equal
    assert (found.missing, found.extra) == (0, 1)
    assert found.examples == (f"extra {own.event_id}",)


async def test_what_is_missing_in_between_is_found_from_the_start(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 30)
    events = await _all(source)
    kept = [Event(**{n: getattr(e, n) for n in Event.model_fields}) for e in events if e.sequence != 11]
    await target.append_batch(kept)
    await copy_events(source, target)
    found = await compare_stores(source, target, patience=0.2)
    assert (found.missing, found.examples) == (1, (f"missing {events[10].event_id}",))
    report = await copy_events(source, target, from_start=True)
    assert (report.stored, report.duplicates) == (1, 29)
    assert (await compare_stores(source, target, patience=0.2)).equal
    assert not (await compare_stores(source, target, patience=0.2)).same_order


async def test_a_key_that_stands_for_something_else_stops_or_is_left_out(pair: Pair) -> None:
    source, target = pair
    await source.append_batch(
        [Event(event_type="a", entity_id="e", idempotency_key=f"k{n}") for n in range(5)]
    )
    await target.append(Event(event_type="b", entity_id="e", idempotency_key="k3"))
    with pytest.raises(AppendConflict):
        await copy_events(source, target)
    report = await copy_events(source, target, skip_conflicts=True)
    assert (report.stored, report.conflicts) == (4, 1)
    found = await compare_stores(source, target, patience=0.2)
    assert (found.missing, found.extra) == (1, 1)


async def test_an_event_that_differs_is_named(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 10)
    events = await _all(source)
    changed = [Event(**{n: getattr(e, n) for n in Event.model_fields}) for e in events]
    changed[4] = changed[4].model_copy(update={"metadata": {"changed": 1}})
    await target.append_batch(changed)
    found = await compare_stores(source, target, patience=0.2)
    assert (found.different, found.examples) == (1, (f"different {events[4].event_id}",))
    assert not found.complete


async def test_an_empty_store_copies_to_an_empty_store(pair: Pair) -> None:
    report = await copy_events(*pair)
    assert (report.stored, report.position) == (0, 0)
    assert (await compare_stores(*pair)).equal


async def test_a_batch_size_that_does_not_fit_is_refused(pair: Pair) -> None:
    with pytest.raises(InvalidSettings, match="batch_size must be from 1 to 10,000"):
        await copy_events(*pair, batch_size=10_001)


async def test_the_next_append_comes_after_what_was_copied(pair: Pair) -> None:
    source, target = pair
    await _fill(source, 20)
    await copy_events(source, target)
    added = await target.append(Event(event_type="new", entity_id="new"))
    assert added.sequence > 20
    assert [e.event_id async for e in target.stream(QueryOptions(after_sequence=20))] == [added.event_id]
