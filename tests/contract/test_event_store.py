"""The contract of event stores: the same tests on every backend."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fixtures.event_stores import MakeStore, needs
from fixtures.history import random_event
from fixtures.query_model import selected
from penstock_schemas import Event, RecordedEvent
from penstock_store.appending import MAX_BATCH, AppendOutcome
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.read_errors import InvalidQuery
from penstock_store.store_contract import Capability, EventStore
from penstock_store.store_errors import (
    AppendConflict,
    InvalidAppend,
    InvalidSnapshot,
    WrongExpectedVersion,
)

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[EventStore]:
    async with make_store() as opened:
        yield opened


def _event(entity: str = "e1", **fields: object) -> Event:
    return Event(event_type="order.placed", entity_id=entity, **fields)  # type: ignore[arg-type]


async def _all(store: EventStore, options: QueryOptions | None = None) -> list[RecordedEvent]:
    return [event async for event in store.stream(options or QueryOptions())]


def _plain(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in Event.model_fields}


async def test_it_offers_the_whole_contract(store: EventStore) -> None:
    assert isinstance(store, EventStore)
    wanted = {Capability.APPEND, Capability.EXPECTED_VERSION, Capability.SUBSCRIBE, Capability.SNAPSHOTS}
    assert wanted <= store.capabilities


@needs(Capability.ANY_QUERY)
async def test_what_is_appended_is_what_is_read(store: EventStore) -> None:
    event = Event(
        event_type="It's grün",
        entity_id="e\n1",
        payload={"a": [1, 2.5, None, True, {"ü": "\u2028"}], "big": 2**70, "": "x" * 5_000},
        occurred_at=datetime(1, 1, 1, microsecond=1, tzinfo=UTC),
        actor_type="user",
        actor_id="ann",
        tenant_id="other",
        correlation_id="c",
        causation_id="d",
        schema_version=2**31 - 1,
        idempotency_key="k" * 1_024,
        metadata={"tags": ["red", 'a "quoted" one']},
    )
    before = datetime.now(UTC) - timedelta(seconds=5)
    result = await store.append(event)
    assert result.outcome is AppendOutcome.STORED
    assert result.stored
    read = await store.get_event(event.event_id)
    assert read is not None
    assert _plain(read) == _plain(event)
    assert (read.sequence, read.recorded_at, read.event_id) == (
        result.sequence,
        result.recorded_at,
        result.event_id,
    )
    assert before < read.recorded_at < datetime.now(UTC) + timedelta(seconds=5)
    assert read.content_hash == event.content_hash


@needs(Capability.ANY_QUERY)
async def test_what_a_reader_does_to_an_event_is_not_stored(store: EventStore) -> None:
    event = _event(payload={"items": [1], "deep": {"n": 1}}, metadata={"tags": ["red"]}, correlation_id="c")
    await store.append(event)

    async def read() -> list[RecordedEvent | None]:
        page = await store.get_events()
        one = await store.get_event(event.event_id)
        return [*page.events, one, *await _all(store), *await store.get_events_by_correlation("c")]

    for _ in range(2):
        for found in await read():
            assert found is not None
            assert _plain(found) == _plain(event)
            found.payload["items"].append(2)
            found.payload["deep"]["n"] = 2
            found.metadata["tags"].clear()
    event.payload["items"].append(3)
    assert [found.payload["items"] for found in await _all(store)] == [[1]]


@needs(Capability.ANY_BATCH)
async def test_a_batch_keeps_its_order_and_says_what_became_of_each(store: EventStore) -> None:
    assert await store.append_batch([]) == []
    events = [_event(f"e{n % 3}") for n in range(50)]
    first = await store.append_batch(events)
    assert [result.outcome for result in first] == [AppendOutcome.STORED] * 50
    more = [_event(), events[7], _event(), events[7]]
    second = await store.append_batch([*more, more[0]])
    assert [result.stored for result in second] == [True, False, True, False, False]
    assert second[1].sequence == first[7].sequence == second[3].sequence
    assert second[4].sequence == second[0].sequence
    stored = await _all(store)
    assert [event.event_id for event in stored] == [event.event_id for event in [*events, more[0], more[2]]]
    assert [event.sequence for event in stored] == sorted({event.sequence for event in stored})


async def test_a_key_is_never_forgotten_and_belongs_to_a_tenant(store: EventStore) -> None:
    first = await store.append(_event(payload={"n": 1.0}, idempotency_key="k"))
    again = await store.append(_event(payload={"n": 1.0}, idempotency_key="k", correlation_id="another"))
    assert (again.outcome, again.event_id, again.sequence, again.recorded_at) == (
        AppendOutcome.DUPLICATE,
        first.event_id,
        first.sequence,
        first.recorded_at,
    )
    assert (await store.append(_event(idempotency_key="k", tenant_id="other"))).stored
    assert len(await _all(store)) == 2


@needs(Capability.ANY_BATCH)
async def test_a_conflict_is_an_error_and_stores_nothing_of_its_batch(store: EventStore) -> None:
    stored = _event(idempotency_key="k")
    await store.append(stored)
    conflicting = _event("another", idempotency_key="k")
    with pytest.raises(AppendConflict) as caught:
        await store.append_batch([_event(), conflicting])
    assert (caught.value.event_ids, caught.value.places) == ((conflicting.event_id,), (1,))
    assert caught.value.reason == "key_conflict"
    with pytest.raises(AppendConflict) as caught:  # a repeat in the call counts by its own place
        await store.append_batch([_event(), conflicting, _event(), conflicting])
    assert (caught.value.event_ids, caught.value.places) == ((conflicting.event_id,), (1, 3))
    with pytest.raises(AppendConflict) as caught:
        await store.append_batch([_event(), _event(event_id=stored.event_id, idempotency_key="k2")])
    assert caught.value.reason == "event_id_taken"
    one = uuid.uuid4()
    for pair in (
        [_event(idempotency_key="n"), _event("b", idempotency_key="n")],
        [_event(event_id=one, idempotency_key="n"), _event(event_id=one, idempotency_key="m")],
    ):
        with pytest.raises(AppendConflict) as caught:
            await store.append_batch(pair)
        assert caught.value.places == (1,)
    assert len(await _all(store)) == 1


async def test_an_expected_version_is_the_sequence_of_the_entitys_newest_event(store: EventStore) -> None:
    first = await store.append(_event("e1"), expected_version=0)
    await store.append(_event("e2"))
    event = _event("e1")
    second = await store.append(event, expected_version=first.sequence)
    for wrong in (0, first.sequence, second.sequence + 1):
        with pytest.raises(WrongExpectedVersion) as caught:
            await store.append(_event("e1"), expected_version=wrong)
        assert (caught.value.expected, caught.value.actual) == (wrong, second.sequence)
    # the same call again, as after a lost answer
    assert not (await store.append(event, expected_version=first.sequence)).stored
    assert (await store.append(_event("e1", tenant_id="other"), expected_version=0)).stored
    batch = await store.append_batch([_event("e1") for _ in range(3)], expected_version=second.sequence)
    assert (await store.append(_event("e1"), expected_version=batch[-1].sequence)).stored
    assert len(await _all(store, QueryOptions(entity_id="e1", tenant_id="default"))) == 6


@pytest.mark.parametrize("wrong", [-1, True, 2**63, "1"])
async def test_an_expectation_that_cannot_hold_is_refused(store: EventStore, wrong: object) -> None:
    with pytest.raises(InvalidAppend):
        await store.append(_event(), expected_version=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidAppend):
        await store.append_batch([_event("e1"), _event("e2")], expected_version=0)
    assert await _all(store) == []


async def test_a_batch_has_a_bound(store: EventStore) -> None:
    one = _event()
    with pytest.raises(InvalidAppend):
        await store.append_batch([one] * (MAX_BATCH + 1))
    results = await store.append_batch([one] * MAX_BATCH)
    assert sum(result.stored for result in results) == 1


@pytest.mark.parametrize(
    "make",
    [lambda: (_event(str(n)) for n in range(2)), _event, lambda: None, lambda: 7],
    ids=["generator", "one_event", "none", "number"],
)
async def test_what_is_no_sequence_of_events_is_refused_in_words(
    store: EventStore, make: Callable[[], Any]
) -> None:
    """Some raised Python's TypeError, and None passed for a batch without events."""
    with pytest.raises(InvalidAppend, match="takes a list"):
        await store.append_batch(make())
    assert await store.append_batch([]) == await store.append_batch(()) == []


@needs(Capability.ANY_QUERY)
async def test_of_concurrent_appends_with_one_expectation_one_wins(store: EventStore) -> None:
    async def attempt(version: int) -> int:
        try:
            return int((await store.append(_event("e1"), expected_version=version)).stored)
        except WrongExpectedVersion:
            return 0

    version = 0
    for _ in range(5):
        assert sum(await asyncio.gather(*(attempt(version) for _ in range(20)))) == 1
        version = (await _all(store, QueryOptions(entity_id="e1")))[-1].sequence


async def test_of_concurrent_appends_of_one_key_one_is_stored(store: EventStore) -> None:
    batches = [[_event("e1", idempotency_key=f"k{n}") for n in range(5)] for _ in range(20)]
    for batch in batches[::2]:
        batch.reverse()
    results = await asyncio.gather(*(store.append_batch(batch) for batch in batches))
    assert sum(result.stored for batch in results for result in batch) == 5
    assert len(await _all(store)) == 5


@needs(Capability.ANY_BATCH, Capability.ANY_QUERY)
async def test_every_query_is_answered_as_the_model_says(store: EventStore) -> None:
    rng = random.Random(11)
    for size in (1, 60, 60):
        await store.append_batch([random_event(rng) for _ in range(size)])
    events = await _all(store)
    assert len(events) == 121
    hour = timedelta(hours=1)
    filters = [
        QueryOptions(),
        QueryOptions(since=_FIRST + 3 * hour, until=_FIRST + 6 * hour),
        QueryOptions(recorded_since=events[1].recorded_at, recorded_until=events[-1].recorded_at),
        QueryOptions(after_sequence=events[20].sequence, up_to_sequence=events[90].sequence),
        QueryOptions(event_types=["order.paid"]),
        QueryOptions(event_types=["order.paid", "It's"], actor_id="çelik"),
        QueryOptions(correlation_id="c1"),
        QueryOptions(entity_id="e2", tenant_id="other"),
        QueryOptions(tags=["grün", "red"]),
        QueryOptions(payload={"a": 1}),
        QueryOptions(payload={"state": [True]}),
        QueryOptions(payload={"b": {}}),
        QueryOptions(payload={"ü": None}, tags=["green"]),
        QueryOptions(entity_id="nobody"),
    ]
    for base in filters:
        for order_by in OrderBy:
            for descending in (False, True):
                options = base.replace(order_by=order_by, descending=descending)
                wanted = selected(events, options)
                assert await _all(store, options) == wanted
                assert await _all(store, options.replace(limit=7, offset=3)) == wanted[3:10]
                page = await store.get_events(options.replace(offset=2, limit=5))
                assert list(page.events) == wanted[2:7]
                assert page.has_more is (len(wanted) > 7)


@needs(Capability.ANY_BATCH, Capability.ANY_QUERY)
async def test_pages_by_cursor_join_without_gap_or_repeat(store: EventStore) -> None:
    rng = random.Random(12)
    await store.append_batch([random_event(rng) for _ in range(40)])
    events = await _all(store)
    for order_by in OrderBy:
        for descending in (False, True):
            options = QueryOptions(order_by=order_by, descending=descending, limit=9)
            found: list[RecordedEvent] = []
            page = await store.get_events(options)
            while page.events:
                found += page.events
                assert page.has_more is (len(found) < len(events))
                page = await store.get_events(options.replace(cursor=page.next_cursor))
            assert found == selected(events, options)
            assert page.next_cursor is None


async def test_what_comes_later_follows_the_last_page(store: EventStore) -> None:
    await store.append_batch([_event() for _ in range(3)])
    page = await store.get_events(QueryOptions(limit=5))
    later = await store.append(_event())
    following = await store.get_events(QueryOptions(limit=5, cursor=page.next_cursor))
    assert [event.sequence for event in following.events] == [later.sequence]


async def test_a_page_that_is_too_long_is_refused(store: EventStore) -> None:
    with pytest.raises(InvalidQuery):
        await store.get_events(QueryOptions(limit=10_001))


@needs(Capability.ANY_QUERY)
async def test_what_is_no_id_and_no_event_is_refused_in_words(store: EventStore) -> None:
    """None as an id chose every event: a correlation of a causation that an event does not have."""
    await store.append(_event())
    nothing: Any = None
    for wrong, name in (
        (lambda: store.get_events_by_correlation(nothing), "correlation_id"),
        (lambda: store.load_correlation(nothing, lambda state, _event: state, 0, name="n"), "correlation_id"),
        (lambda: store.load(nothing, lambda state, _event: state, 0, name="n"), "entity_id"),
        (lambda: store.load("e1", lambda state, _event: state, 0, name="n", tenant_id=nothing), "tenant_id"),
        (lambda: store.get_event(str(uuid.uuid4())), "event_id"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidQuery, match=f"{name} must be"):
            await wrong()
    for every in ("1", 1.0, True):
        with pytest.raises(InvalidSnapshot, match="snapshot_every must be"):
            await store.load("e1", lambda state, _event: state, 0, name="n", snapshot_every=every)  # type: ignore[arg-type]
    with pytest.raises(InvalidAppend, match="only an Event"):
        await store.append({"event_type": "a", "entity_id": "b"})  # type: ignore[arg-type]


@needs(Capability.ANY_BATCH)
async def test_a_place_that_is_no_sequence_is_refused_in_words(store: EventStore) -> None:
    """None compared with a number is Python's error; to `stream_since` it meant everything."""
    await store.append(_event())
    for wrong in (None, "1", 1.5, True, 2**63):
        async with asyncio.timeout(30):
            for read, name in ((store.subscribe, "after"), (store.stream_since, "start")):
                with pytest.raises(InvalidQuery, match=f"{name} must be"):
                    _ = [event async for event in read(wrong)]  # type: ignore[arg-type]


@needs(Capability.ANY_QUERY)
async def test_one_event_and_one_correlation(store: EventStore) -> None:
    assert await store.get_event(uuid.uuid4()) is None
    assert await store.get_events_by_correlation("c") == []
    late = _event(correlation_id="c", occurred_at=_FIRST + timedelta(days=1))
    early = _event(correlation_id="c", occurred_at=_FIRST)
    await store.append_batch([late, _event(), early])
    found = await store.get_events_by_correlation("c")
    assert [event.event_id for event in found] == [early.event_id, late.event_id]


@needs(Capability.ANY_QUERY)
async def test_a_stream_since_a_sequence_or_a_time(store: EventStore) -> None:
    events = [_event(occurred_at=_FIRST + timedelta(hours=hour)) for hour in (3, 1, 2, 0)]
    results = await store.append_batch(events)
    after = [event.event_id async for event in store.stream_since(results[1].sequence)]
    assert after == [events[2].event_id, events[3].event_id]
    since = [event.event_id async for event in store.stream_since(_FIRST + timedelta(hours=1))]
    assert since == [events[n].event_id for n in (1, 2, 0)]
    red = QueryOptions(entity_id="nobody")
    assert [event async for event in store.stream_since(0, red)] == []


@needs(Capability.ANY_QUERY)
async def test_a_stream_since_goes_no_further_back_than_its_options(store: EventStore) -> None:
    """As a subscription: of two bounds the later one holds."""
    events = [_event(occurred_at=_FIRST + timedelta(hours=hour)) for hour in range(4)]
    results = await store.append_batch(events)
    for start, bound, expected in ((0, 1, [2, 3]), (2, 1, [3]), (0, None, [0, 1, 2, 3])):
        after = QueryOptions(after_sequence=None if bound is None else results[bound].sequence)
        first = results[start].sequence if start else 0
        found = [event.event_id async for event in store.stream_since(first, after)]
        assert found == [events[n].event_id for n in expected]
        since = QueryOptions(since=None if bound is None else events[bound + 1].occurred_at)
        start_at = _FIRST + timedelta(hours=start + bool(start))
        found = [event.event_id async for event in store.stream_since(start_at, since)]
        assert found == [events[n].event_id for n in expected]
    with pytest.raises(InvalidQuery, match="start must be a datetime with a time zone"):
        _ = [event async for event in store.stream_since(_FIRST.replace(tzinfo=None))]


@needs(Capability.ANY_BATCH)
async def test_a_subscription_reads_what_is_there_and_goes_on(store: EventStore) -> None:
    events = [_event(f"e{n}") for n in range(30)]
    first = await store.append_batch(events[:10])
    seen: list[uuid.UUID] = []
    async with asyncio.timeout(30), aclosing(store.subscribe(after=first[1].sequence)) as news:
        async for event in news:
            seen.append(event.event_id)
            if len(seen) == 8:
                await asyncio.gather(*(store.append(event) for event in events[10:]))
            if len(seen) == 28:
                break
    assert seen[:8] == [event.event_id for event in events[2:10]]
    assert sorted(seen) == sorted(event.event_id for event in events[2:])


@needs(Capability.ANY_BATCH)
async def test_a_subscription_filters_and_ends_where_it_is_told(store: EventStore) -> None:
    results = await store.append_batch([_event(f"e{n % 2}") for n in range(10)])
    async with asyncio.timeout(30):
        two = [event async for event in store.subscribe(options=QueryOptions(entity_id="e1", limit=2))]
        bounded = QueryOptions(entity_id="e0", up_to_sequence=results[5].sequence)
        some = [event async for event in store.subscribe(options=bounded)]
    assert [event.sequence for event in two] == [results[1].sequence, results[3].sequence]
    assert [event.sequence for event in some] == [results[n].sequence for n in (0, 2, 4)]


async def test_a_snapshot_is_replaced_by_newer_ones_of_its_version(store: EventStore) -> None:
    assert await store.get_snapshot("k") is None
    state = {"a": [1, 2.5, None, 2**70, 1e23], "ü": {}}
    assert await store.create_snapshot("k", state, sequence=10)
    found = await store.get_snapshot("k")
    assert found is not None
    assert (found.key, found.state, found.sequence, found.state_version) == ("k", state, 10, 1)
    assert found.taken_at.tzinfo is not None
    assert not await store.create_snapshot("k", {"older": 1}, sequence=9)
    assert await store.create_snapshot("k", [], sequence=12, state_version=2)
    assert await store.create_snapshot("k", "newer", sequence=11)
    newest = [await store.get_snapshot("k", state_version=version) for version in (1, 2, 3)]
    assert [snapshot and snapshot.state for snapshot in newest] == ["newer", [], None]


async def test_a_snapshot_without_a_sequence_stands_at_the_newest_event(store: EventStore) -> None:
    assert await store.create_snapshot("k", 0)
    found = await store.get_snapshot("k")
    assert found is not None
    assert found.sequence == 0
    last = (await store.append_batch([_event("e1"), _event("e1")]))[-1]
    assert await store.create_snapshot("k", 2)
    assert not await store.create_snapshot("k", 1, sequence=0)
    found = await store.get_snapshot("k")
    assert found is not None
    assert (found.state, found.sequence) == (2, last.sequence)
    later = await store.append(_event("e1"))
    since = store.stream_since(found.sequence, QueryOptions(entity_id="e1", tenant_id="default"))
    assert [event.event_id async for event in since] == [later.event_id]


async def test_a_snapshot_that_cannot_be_stored_is_refused(store: EventStore) -> None:
    refused: tuple[tuple[str, Any, Any, Any], ...] = (
        ("", 1, 1, 1),
        ("k", float("nan"), 1, 1),
        ("k", "\0", 1, 1),
        ("k", 1, -1, 1),
        ("k", 1, "1", 1),
        ("k", 1, True, 1),
        ("k", 1, 1, 0),
        ("k", 1, 1, 1.0),
    )
    for key, state, sequence, version in refused:
        with pytest.raises(InvalidSnapshot):
            await store.create_snapshot(key, state, sequence=sequence, state_version=version)


@needs(Capability.ANY_QUERY)
async def test_health_and_metrics(store: EventStore) -> None:
    health = await store.health_check()
    assert (health.live, health.ready, health.detail) == (True, True, "ok")
    event = _event()
    await store.append_batch([event, _event(), event])
    with pytest.raises(WrongExpectedVersion):
        await store.append(_event(), expected_version=77)
    await store.get_event(event.event_id)
    metrics = await store.get_metrics()
    assert (metrics.appended, metrics.duplicates, metrics.errors, metrics.corrupted) == (2, 1, 1, 0)
    assert metrics.append_latency.count == 2
    assert metrics.query_latency.count == 1
    assert metrics.append_latency.max_seconds >= metrics.append_latency.mean_seconds > 0
    assert metrics.last_sequence == (await _all(store))[-1].sequence
    assert metrics.growth_per_second > 0


async def test_closing_and_initializing_again_does_no_harm(store: EventStore) -> None:
    await store.initialize()
    await store.append(_event())
    await store.close()
    await store.close()
