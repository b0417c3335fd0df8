"""Value projections: the same tests on every backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fixtures.event_stores import MakeStore, needs
from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store.checkpoint_errors import InvalidProjection, ProjectionFailed, StateVersionDiffers
from penstock_store.contract import QueryOptions
from penstock_store.projections import ProjectionRunner, ValueProjection, projection, rebuild, statuses
from penstock_store.store_contract import Capability, EventStore

_PAID = QueryOptions(event_types=["order.paid"])

pytestmark = needs(Capability.CHECKPOINTS)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[EventStore]:
    async with make_store() as opened:
        yield opened


def _fold(state: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    if event.payload.get("poison"):
        state["spoilt"] = True  # must not be seen: the event failed
        raise ZeroDivisionError("no such amount")
    state["sum"] += event.payload["n"]
    state["seen"].append(event.sequence)
    return state


def _totals(version: int = 1) -> ValueProjection:
    return projection("totals", initial={"sum": 0, "seen": []}, options=_PAID, version=version)(_fold)


def _paid(n: int, **payload: Any) -> Event:
    return Event(event_type="order.paid", entity_id="42", payload={"n": n, **payload})


def _other() -> Event:
    return Event(event_type="order.placed", entity_id="42")


async def _value(store: EventStore) -> Any:
    kept = await store.get_checkpoint("projection/totals")
    return kept and kept.state


async def test_it_catches_up_and_goes_on_live(store: EventStore) -> None:
    await store.append_batch([_other(), *(_paid(n) for n in range(10))])
    runner = ProjectionRunner(store, _totals())
    running = asyncio.create_task(runner.run())
    await wait_for_async(lambda: _sums(store, 45), what="the past to be folded")
    await store.append_batch([_paid(5), _other()])
    await wait_for_async(lambda: _sums(store, 50), what="the present to be folded")
    runner.stop()
    await asyncio.wait_for(running, 30)
    (status,) = await statuses(store)
    assert (status.name, status.owner, status.fault) == ("totals", None, None)
    await store.append(_paid(7))
    (status,) = await statuses(store)
    assert status.lag_events >= 1
    await ProjectionRunner(store, _totals()).run(once=True)
    assert (await _value(store))["sum"] == 57
    (status,) = await statuses(store)
    assert (status.lag_events, status.lag_seconds) == (0, 0)


async def _sums(store: EventStore, wanted: int) -> bool:
    value = await _value(store)
    return value is not None and value["sum"] == wanted


async def test_a_failing_event_is_named_and_what_was_before_it_is_done(store: EventStore) -> None:
    results = await store.append_batch([_paid(1), _paid(2), _paid(3, poison=True), _paid(4)])
    with pytest.raises(ProjectionFailed, match=f"--skip {results[2].sequence}") as caught:
        await ProjectionRunner(store, _totals()).run(once=True)
    assert caught.value.event.event_id == results[2].event_id
    assert await _value(store) == {"sum": 3, "seen": [result.sequence for result in results[:2]]}
    (status,) = await statuses(store)
    assert status.sequence == results[1].sequence
    assert "no such amount" in str(status.fault)
    await ProjectionRunner(store, _totals(), skip={results[2].sequence}).run(once=True)
    assert (await _value(store))["sum"] == 7
    assert (await statuses(store))[0].fault is None


async def test_another_version_is_refused_until_it_is_rebuilt(store: EventStore) -> None:
    results = await store.append_batch([_paid(n) for n in range(5)])
    await ProjectionRunner(store, _totals()).run(once=True)
    await store.append(_paid(100))
    with pytest.raises(StateVersionDiffers, match="rebuild"):
        await ProjectionRunner(store, _totals(2)).run(once=True)
    doubled = projection("totals", initial={"sum": 0}, options=_PAID, version=2)(_double)
    rebuilt = await rebuild(store, doubled)
    assert (rebuilt.sequence, rebuilt.events) == (results[-1].sequence, 5)
    assert (await _value(store))["sum"] == 20
    with pytest.raises(StateVersionDiffers):
        await ProjectionRunner(store, _totals()).run(once=True)
    await ProjectionRunner(store, doubled).run(once=True)
    assert (await _value(store))["sum"] == 220


def _double(state: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    return {"sum": state["sum"] + 2 * event.payload["n"]}


async def test_a_rebuild_beside_a_runner_loses_and_doubles_nothing(store: EventStore) -> None:
    await store.append_batch([_paid(1) for _ in range(20)])
    runner = ProjectionRunner(store, _totals(), lease=2.0)
    running = asyncio.create_task(runner.run())
    await wait_for_async(lambda: _sums(store, 20), what="the past to be folded")
    for round_ in range(3):
        rebuilding = asyncio.create_task(rebuild(store, _totals()))
        await store.append_batch([_paid(1) for _ in range(5)])
        await asyncio.wait_for(rebuilding, 30)
        await wait_for_async(
            lambda round_=round_: _sums(store, 25 + 5 * round_),  # type: ignore[misc]
            what="the runner to go on",
        )
    runner.stop()
    await asyncio.wait_for(running, 30)
    value = await _value(store)
    assert len(value["seen"]) == len(set(value["seen"])) == 35


async def test_a_rebuild_begins_with_a_snapshot(store: EventStore) -> None:
    results = await store.append_batch([_paid(n) for n in range(10)])
    await ProjectionRunner(store, _totals()).run(once=True)
    await store.create_snapshot("base", {"sum": 1_000, "seen": []}, sequence=results[6].sequence)
    rebuilt = await rebuild(store, _totals(), snapshot="base")
    assert (rebuilt.start, rebuilt.events) == (results[6].sequence, 3)
    assert (await _value(store))["sum"] == 1_024
    with pytest.raises(InvalidProjection, match="no snapshot"):
        await rebuild(store, _totals(), snapshot="another")


async def test_what_was_left_out_may_be_left_out_of_a_rebuild(store: EventStore) -> None:
    results = await store.append_batch([_paid(1), _paid(2, poison=True), _paid(4)])
    skip = {results[1].sequence}
    await ProjectionRunner(store, _totals(), skip=skip).run(once=True)
    with pytest.raises(ProjectionFailed):
        await rebuild(store, _totals())
    rebuilt = await rebuild(store, _totals(), skip=skip)
    assert rebuilt.sequence == results[2].sequence
    assert (await _value(store))["sum"] == 5


async def test_a_standby_takes_over(store: EventStore) -> None:
    first, second = ProjectionRunner(store, _totals()), ProjectionRunner(store, _totals())
    running = [asyncio.create_task(first.run()), asyncio.create_task(second.run())]
    for n, leaving in ((1, first), (2, second)):
        await store.append(_paid(n))
        await wait_for_async(lambda n=n: _sums(store, n * (n + 1) // 2), what="the event to be folded")  # type: ignore[misc]
        leaving.stop()
        if leaving is first:
            await asyncio.wait_for(running[0], 30)
    await asyncio.wait_for(running[1], 30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Orders"},
        {"name": ""},
        {"name": "x" * 40},
        {"version": 0},
        {"options": QueryOptions(limit=1)},
        {"options": QueryOptions(after_sequence=1)},
    ],
)
def test_a_definition_that_cannot_be_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidProjection):
        projection(**{"name": "fine", "initial": 0, **wrong})(_fold)


async def test_a_fold_that_returns_nothing_is_told_so(store: EventStore) -> None:
    """None would be kept as no state, and the next batch begin anew: the value would depend on batches."""
    await store.append_batch([_paid(1), _paid(2)])

    @projection("forgetful", initial={"sum": 0})
    def forgetful(state: dict[str, Any], event: RecordedEvent) -> None:
        state["sum"] += event.payload["n"]

    with pytest.raises(ProjectionFailed, match="return"):
        await ProjectionRunner(store, forgetful).run(once=True)
    kept = await store.get_checkpoint("projection/forgetful")
    assert kept is not None
    assert (kept.sequence, kept.state) == (0, None)
