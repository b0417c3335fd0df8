"""What the KurrentDB backend makes of a log's answers, over a log in memory. No claim about KurrentDB."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from kurrentdbclient import NewEvent
from kurrentdbclient.common import construct_filter_include_regex

from fixtures.kurrent_fake import FakeClient
from penstock_schemas import Event, RecordedEvent
from penstock_schemas.fields import EventFields
from penstock_store import kurrentdb
from penstock_store.backends import create_event_store
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.kurrentdb._mapping import entity_stream, new_event
from penstock_store.kurrentdb._plan import Filter, plan_of
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.kurrentdb.store import KurrentEventStore
from penstock_store.moving import copy_events, plan_copy
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_contract import UNKNOWN, Capability
from penstock_store.store_errors import (
    AppendConflict,
    CorruptedEvents,
    InvalidSettings,
    NotSupported,
    UnknownBackend,
    WrongExpectedVersion,
)

_URI = "kurrentdb://ann:s3cret@h:2113"


def _store(client: FakeClient, **settings: Any) -> KurrentEventStore:
    chosen = KurrentSettings(uri=_URI, **{"stream_chunk": 3, **settings})
    return KurrentEventStore(chosen, client)  # type: ignore[arg-type]


def _event(entity: str = "e1", **fields: Any) -> Event:
    return Event(event_type=fields.pop("event_type", "order.placed"), entity_id=entity, **fields)


async def _all(store: KurrentEventStore, **options: Any) -> list[RecordedEvent]:
    return [event async for event in store.stream(QueryOptions(**options))]


async def test_keys_versions_and_conflicts_hold_within_an_entity() -> None:
    client = FakeClient()
    store = _store(client)
    events = [_event() for _ in range(8)]
    first = await store.append_batch(events, expected_version=0)
    assert [one.stored for one in first] == [True] * 8
    again = await _store(client).append_batch([events[6], _event(), events[0]])  # another process
    assert [(one.stored, one.sequence) for one in again][::2] == [
        (False, first[6].sequence),
        (False, first[0].sequence),
    ]
    with pytest.raises(WrongExpectedVersion) as caught:
        await store.append(_event(), expected_version=first[-1].sequence)
    assert caught.value.actual == again[1].sequence
    with pytest.raises(AppendConflict):
        await store.append(_event(payload={"other": 1}, idempotency_key=events[0].idempotency_key))
    with pytest.raises(AppendConflict):
        await store.append(_event(event_id=events[0].event_id, idempotency_key="another"))
    assert len(await _all(store)) == 9


async def test_of_concurrent_appends_one_wins_and_none_is_lost() -> None:
    client = FakeClient()
    stores = [_store(client) for _ in range(4)]

    async def attempt(number: int) -> bool:
        try:
            return (await stores[number % 4].append(_event(), expected_version=0)).stored
        except WrongExpectedVersion:
            return False

    assert sum(await asyncio.gather(*(attempt(n) for n in range(12)))) == 1
    one = _event(idempotency_key="k")
    results = await asyncio.gather(*(store.append(one) for store in stores))
    assert sum(result.stored for result in results) == 1
    assert len(await _all(stores[0])) == 2


async def test_an_append_whose_answer_was_lost_is_a_duplicate_when_repeated() -> None:
    client = FakeClient()
    store = _store(client)
    event = _event()
    client.put("x-y", NewEvent(type="z", data=b""))
    append = client.append

    async def lost(*arguments: Any) -> None:
        await append(*arguments)
        raise StoreUnavailable("lost")

    client.append = lost  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await store.append(event)
    client.append = append  # type: ignore[method-assign]
    assert not (await store.append(event)).stored
    assert len(await _all(store)) == 1


async def test_only_what_is_new_of_an_entity_is_read_again() -> None:
    client = FakeClient()
    store = _store(client)
    await store.append_batch([_event() for _ in range(30)])
    before = client.reads
    await store.append(_event())
    assert client.reads - before == 3  # look, append, look


async def test_pages_and_streams_in_both_directions() -> None:
    store = _store(FakeClient())
    for n in range(10):
        await store.append(_event(f"e{n % 2}", tenant_id=f"t{n % 3}", event_type=f"type.{n % 4}"))
    events = await _all(store)
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert len(events) == 10
    assert await _all(store, descending=True) == events[::-1]
    assert await _all(store, limit=4, offset=2) == events[2:6]
    assert (
        await _all(store, after_sequence=events[3].sequence, up_to_sequence=events[7].sequence) == events[4:8]
    )
    assert await _all(store, after_sequence=events[6].sequence, descending=True) == events[:6:-1]
    assert await _all(store, event_types=["type.1", "type.3"]) == events[1::2]
    assert await _all(store, tenant_id="t1") == events[1::3]
    entity = QueryOptions(tenant_id="t0", entity_id="e0", event_types=["type.2"])
    assert [event async for event in store.stream(entity)] == [events[6]]
    for base in (
        QueryOptions(limit=3),
        QueryOptions(limit=3, descending=True),
        QueryOptions(limit=1, entity_id="e0", tenant_id="t0"),
        QueryOptions(limit=1, entity_id="e0", tenant_id="t0", descending=True),
    ):
        found: list[RecordedEvent] = []
        page = await store.get_events(base)
        while page.events:
            found += page.events
            page = await store.get_events(base.replace(cursor=page.next_cursor))
        wanted = [e for e in events if base.entity_id is None or (e.tenant_id, e.entity_id) == ("t0", "e0")]
        assert found == (wanted[::-1] if base.descending else wanted)


async def test_a_correlation_needs_the_systems_projections() -> None:
    client = FakeClient()
    late, early = (
        _event(correlation_id="c", occurred_at=datetime(2026, 1, day, tzinfo=UTC)) for day in (2, 1)
    )
    store = _store(client, system_projections=True)
    for event in (late, _event(), early):
        await store.append(event)
    found = await store.get_events_by_correlation("c")
    assert [event.event_id for event in found] == [early.event_id, late.event_id]
    with pytest.raises(NotSupported, match="system_projections = true"):
        await _store(client).get_events_by_correlation("c")


@pytest.mark.parametrize(
    "options",
    [
        {"order_by": OrderBy.TIME},
        {"order_by": OrderBy.EVENT_ID},
        {"since": datetime(2026, 1, 1, tzinfo=UTC)},
        {"recorded_until": datetime(2026, 1, 1, tzinfo=UTC)},
        {"actor_id": "a"},
        {"tags": ["a"]},
        {"payload": {"a": 1}},
        {"entity_id": "e"},
        {"tenant_id": "t", "event_types": ["a"]},
        {"descending": True, "up_to_sequence": 5},
    ],
)
async def test_what_would_read_everything_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(NotSupported, match=r"KurrentDB"):
        await _all(_store(FakeClient()), **options)


async def test_what_is_not_declared_is_refused() -> None:
    store = _store(FakeClient())
    assert not {Capability.ANY_BATCH, Capability.ANY_QUERY} & store.capabilities
    with pytest.raises(NotSupported, match="several entities"):
        await store.append_batch([_event("e1"), _event("e2")])
    with pytest.raises(NotSupported, match="event ids"):
        await store.get_event(uuid.uuid4())
    with pytest.raises(NotSupported, match="follow one correlation"):
        await anext(store.subscribe(options=QueryOptions(correlation_id="c")))


async def test_a_subscription_goes_on_through_failures_and_sees_each_event_once() -> None:
    client = FakeClient()
    store = _store(client)
    first = await store.append_batch([_event() for _ in range(4)])
    later = new_event(EventFields.of(_event()))
    seen: list[int] = []
    async with asyncio.timeout(20), aclosing(store.subscribe(first[0].sequence)) as news:
        async for event in news:
            seen.append(event.sequence)
            if len(seen) == 3:  # ends the subscription, then refuses the next one
                client.failures = [StoreUnavailable("away"), StoreUnavailable("away still")]
                last = client.put(entity_stream("penstock", "default", "e1"), later)
            if len(seen) == 4:
                break
    assert seen == [*(one.sequence for one in first[1:]), last.commit_position]


async def test_a_subscription_filters_and_ends_where_it_is_told() -> None:
    store = _store(FakeClient())
    results = [await store.append(_event(f"e{n % 2}")) for n in range(6)]
    async with asyncio.timeout(20):
        two = [event.sequence async for event in store.subscribe(options=QueryOptions(limit=2))]
        options = QueryOptions(
            entity_id="e0",
            tenant_id="default",
            up_to_sequence=results[3].sequence,
            event_types=["order.placed"],
        )
        some = [event.sequence async for event in store.subscribe(options=options)]
    assert two == [results[0].sequence, results[1].sequence]
    assert some == [results[0].sequence, results[2].sequence]


async def test_a_strangers_event_among_ours_is_reported() -> None:
    client = FakeClient()
    store = _store(client)
    await store.append(_event())
    client.put(entity_stream("penstock", "default", "e1"), NewEvent(type="order.placed", data=b"{}"))
    with pytest.raises(CorruptedEvents, match="penstock-default/e1@1"):
        await _all(store)
    assert len(await _all(store, skip_corrupted=True)) == 1
    assert (await store.append(_event())).stored
    metrics = await store.get_metrics()
    assert (metrics.corrupted, metrics.events, metrics.storage_bytes) == (2, UNKNOWN, UNKNOWN)


async def test_snapshots_are_replaced_by_newer_ones() -> None:
    store = _store(FakeClient())
    assert await store.get_snapshot("k") is None
    assert await store.create_snapshot("k", {"n": 2**70}, sequence=5)
    assert not await store.create_snapshot("k", {}, sequence=4)
    assert await store.create_snapshot("k", [], sequence=6, state_version=2)
    found = await store.get_snapshot("k")
    assert found is not None
    assert (found.state, found.sequence) == ({"n": 2**70}, 5)
    last = await store.append(_event())
    assert await store.create_snapshot("now", 1)  # without a sequence: at the newest event
    found = await store.get_snapshot("now")
    assert found is not None
    assert found.sequence == last.sequence


async def test_health_says_why_not() -> None:
    client = FakeClient()
    store = _store(client)
    assert (await store.health_check()).ready
    client.failures = [StoreUnavailable("away")]
    health = await store.health_check()
    assert (health.live, health.ready, health.detail) == (True, False, "away")


def test_types_are_one_pattern_that_is_anchored_as_a_whole() -> None:
    (pattern,) = Filter("c-", ("a.b", "c")).arguments()["filter_include"]
    assert construct_filter_include_regex((pattern,)) == r"^(?:a\.b|c)$"


def test_an_entity_is_read_from_its_own_stream() -> None:
    plan = plan_of(QueryOptions(tenant_id="t/1", entity_id="ü", tags=["x"]), "c", system_projections=False)
    assert plan.stream == "c-t%2F1/%C3%BC"


@pytest.mark.parametrize(
    "wrong",
    [
        {"uri": "postgresql://h"},
        {"uri": "kurrentdb://"},
        {"uri": _URI, "category": "a-b"},
        {"uri": _URI, "category": "$x"},
        {"uri": _URI, "call_timeout": 0},
        {"uri": _URI, "stream_chunk": 0},
    ],
)
def test_settings_that_do_not_fit_are_refused_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings):
        KurrentSettings(**wrong)


@pytest.mark.parametrize(
    "uri",
    [
        "kurrentdb://h:2113",  # TLS without a login
        "kurrentdb://ann:s3cret@h:2113?nonsense=1",
        "kurrentdb+discover://ann:s3cret@h1,h2",
        "kurrentdb://ann:s3cret@h:2113?TlsCaFile=/no/such/file",
    ],
)
async def test_a_connection_string_that_the_client_refuses_is_said_without_its_password(uri: str) -> None:
    with pytest.raises(InvalidSettings, match="uri") as caught:
        create_event_store("kurrentdb", uri=uri)
    assert "s3cret" not in str(caught.value)


def test_keep_alive_is_added_unless_it_is_given() -> None:
    assert (
        KurrentSettings(uri=_URI).connection_string
        == f"{_URI}?KeepAliveInterval=10000&KeepAliveTimeout=10000"
    )
    given = "kurrentdb://h?tls=false&keepAliveInterval=5&keepAliveTimeout=6"
    assert KurrentSettings(uri=given).connection_string == given


async def test_a_server_that_is_not_there_is_unavailable_in_time() -> None:
    uri = "kurrentdb://127.0.0.1:1?tls=false"
    async with asyncio.timeout(10):
        store = create_event_store("eventstore", uri=uri, call_timeout=1.0)
        with pytest.raises(StoreUnavailable, match=r"KurrentDB at kurrentdb://127\.0\.0\.1:1 "):
            await store.initialize()
        assert not (await store.health_check()).ready
        await store.close()
        with pytest.raises(StoreUnavailable, match="was closed"):
            await store.append(_event())


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kurrentdb, "find_spec", lambda _name: None)
    with pytest.raises(UnknownBackend, match=r"pip install 'penstock-store\[kurrentdb\]'"):
        create_event_store("kurrentdb", uri=_URI)


def test_other_backends_do_not_import_it() -> None:
    code = "import sys, penstock_store.backends as b; b.create_event_store('memory'); b.backend_names();"
    code += (
        "import penstock_store.kurrentdb; sys.exit('kurrentdbclient' in sys.modules or 'grpc' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


async def test_it_is_no_side_of_a_copy_and_says_why() -> None:
    other = create_event_store("memory")
    for source, target, place in (
        (_store(FakeClient()), other, "source"),
        (other, _store(FakeClient()), "target"),
    ):
        for work in (copy_events, plan_copy):
            with pytest.raises(NotSupported, match=f"KurrentEventStore cannot be its {place}.*any_query"):
                await work(source, target)
