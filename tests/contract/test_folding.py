"""`load`: the same tests on every backend, in counts of events read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fixtures.event_stores import MakeStore, needs
from penstock_schemas import Event, RecordedEvent
from penstock_store.store_contract import Capability, EventStore
from penstock_store.store_errors import InvalidSnapshot

pytestmark = needs(Capability.ANY_BATCH)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[EventStore]:
    async with make_store() as opened:
        yield opened


def total(state: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    state["sum"] = state.get("sum", 0) + event.payload["n"]
    state["events"] = [*state.get("events", []), event.sequence][-3:]
    return state


def _event(n: int, entity: str = "42", **fields: Any) -> Event:
    return Event(event_type="added", entity_id=entity, payload={"n": n}, **fields)


async def test_an_entity_is_folded_from_its_events_alone(store: EventStore) -> None:
    nobody = await store.load("42", total, {})
    assert (nobody.state, nobody.version, nobody.events_read, nobody.from_snapshot) == ({}, 0, 0, None)
    results = await store.append_batch(
        [_event(1), _event(10, "43"), _event(2), _event(99, tenant_id="other"), _event(3)]
    )
    initial: dict[str, Any] = {}
    loaded = await store.load("42", total, initial)
    assert loaded.state["sum"] == 6
    assert loaded.version == results[4].sequence
    assert (loaded.events_read, loaded.snapshot_taken, initial) == (3, False, {})
    assert (await store.load("42", total, {}, tenant_id="other")).state["sum"] == 99
    # the version is what the next append expects
    assert (await store.append(_event(4), expected_version=loaded.version)).stored


async def test_a_snapshot_spares_what_it_holds(store: EventStore) -> None:
    await store.append_batch([_event(n) for n in range(300)])
    first = await store.load("42", total, {}, snapshot_every=100)
    assert (first.events_read, first.snapshot_taken) == (300, True)
    again = await store.load("42", total, {}, snapshot_every=100)
    assert (again.state, again.version) == (first.state, first.version)
    assert (again.events_read, again.snapshot_taken) == (1, False)  # the snapshot's own newest event
    assert again.from_snapshot == first.version
    await store.append_batch([_event(1, "43"), *(_event(n) for n in range(5))])
    few = await store.load("42", total, {}, snapshot_every=100)
    assert (few.state["sum"], few.events_read, few.snapshot_taken) == (first.state["sum"] + 10, 6, False)
    many = await store.load("42", total, {}, snapshot_every=6)
    assert many.snapshot_taken
    assert (await store.load("42", total, {})).events_read == 1
    assert (await store.load("43", total, {})).events_read == 1


async def test_a_new_state_version_folds_anew_beside_the_old_one(store: EventStore) -> None:
    await store.append_batch([_event(n) for n in range(20)])
    await store.load("42", total, {}, snapshot_every=1)
    other = await store.load("42", total, {"sum": 1_000}, state_version=2, snapshot_every=1)
    assert (other.state["sum"], other.events_read) == (1_190, 20)
    assert (await store.load("42", total, {})).state["sum"] == 190
    assert (await store.load("42", total, {}, state_version=2)).events_read == 1


async def test_two_folds_of_an_entity_do_not_meet(store: EventStore) -> None:
    await store.append_batch([_event(n) for n in range(5)])

    with pytest.raises(InvalidSnapshot, match="name="):
        await store.load("42", lambda state, _event: state + 1, 0)
    count = await store.load("42", lambda state, _event: state + 1, 0, name="count", snapshot_every=1)
    assert count.state == 5
    assert (await store.load("42", total, {}, snapshot_every=1)).state["sum"] == 10
    assert (await store.load("42", lambda state, _event: state + 1, 0, name="count")).events_read == 1


async def test_a_snapshot_of_another_history_is_not_used(store: EventStore) -> None:
    """As after events were restored from an older backup than the snapshots."""
    results = await store.append_batch([_event(n) for n in range(10)])
    key = '["penstock", "entity", "default", "42"]'
    for sequence in (results[-1].sequence + 100, results[-1].sequence + 1):
        state = {"event_id": str(results[-1].event_id), "state": {"sum": -1}}
        await store.create_snapshot(key, state, sequence=sequence)
        loaded = await store.load("42", total, {}, name="penstock")
        assert (loaded.state["sum"], loaded.from_snapshot, loaded.events_read) == (45, None, 10)


async def test_a_snapshot_of_another_event_at_its_sequence_is_not_used(store: EventStore) -> None:
    """As where events were restored and appended since: the numbers begin where they were lost."""
    await store.append_batch([_event(n) for n in range(10)])
    await store.load("42", total, {}, name="penstock", snapshot_every=1)
    key = '["penstock", "entity", "default", "42"]'
    lost = await store.get_snapshot(key)
    assert lost is not None
    new = await store.append(_event(100))
    await store.create_snapshot(key, lost.state, sequence=new.sequence)
    loaded = await store.load("42", total, {}, name="penstock", snapshot_every=1)
    assert (loaded.state["sum"], loaded.from_snapshot, loaded.events_read) == (145, None, 11)
    again = await store.load("42", total, {}, name="penstock")
    assert (again.state["sum"], again.from_snapshot, again.events_read) == (145, new.sequence, 1)


async def test_a_correlation_is_folded_over_entities(store: EventStore) -> None:
    await store.append_batch([_event(n, f"e{n}", correlation_id="c" if n % 2 else "d") for n in range(10)])
    loaded = await store.load_correlation("c", total, {}, snapshot_every=2)
    assert (loaded.state["sum"], loaded.events_read, loaded.snapshot_taken) == (25, 5, True)
    assert (await store.load_correlation("c", total, {})).events_read == 1
    assert (await store.load_correlation("d", total, {})).state["sum"] == 20


async def test_identifiers_of_any_length_and_kind_have_a_snapshot(store: EventStore) -> None:
    for entity in ("e" * 1_024, 'a", "b', "ü|\\"):
        await store.append(_event(7, entity))
        assert (await store.load(entity, total, {}, snapshot_every=1)).snapshot_taken
        again = await store.load(entity, total, {})
        assert (again.from_snapshot is not None, again.state["sum"]) == (True, 7)


async def test_a_state_that_is_no_json_cannot_be_kept(store: EventStore) -> None:
    await store.append(_event(1))
    with pytest.raises(InvalidSnapshot):
        await store.load("42", lambda _state, event: {event.sequence}, set(), name="set", snapshot_every=1)
    with pytest.raises(InvalidSnapshot):
        await store.load("42", total, {}, snapshot_every=0)
    plain = await store.load("42", lambda state, event: state | {event.sequence}, set(), name="set")
    assert len(plain.state) == 1
