"""Values that few events have, looked for by plans that a session keeps for each partition."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History, random_event
from penstock_schemas import RecordedEvent
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.postgresql._select import Statement
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

_PARTITIONS = 24
_RARE: Mapping[str, Mapping[str, Any]] = {
    "correlation_id": {"correlation_id": "rare"},
    "entity_id": {"entity_id": "it's \\ rare"},
    "actor_id": {"actor_id": "rare"},
    "tags": {"tags": ["rare"]},
    "event_type": {"event_types": ["rare"]},
    "payload": {"payload": {"of": {"a": ["rare'"]}}},
    "tenant_id": {"tenant_id": "rare"},
}

_KEYS: Mapping[OrderBy, Callable[[RecordedEvent], Any]] = {
    OrderBy.SEQUENCE: lambda event: event.sequence,
    OrderBy.TIME: lambda event: (event.occurred_at, event.sequence),
    OrderBy.EVENT_ID: lambda event: event.event_id.int,
}
_KEPT = "SELECT name, generic_plans, custom_plans FROM pg_prepared_statements WHERE name LIKE $1"


@pytest.fixture
async def history(database: Database) -> AsyncIterator[History]:
    """In every partition, the current one too, two events of the rare values among twenty."""
    connection = await asyncpg.connect(database.url, timeout=10)
    made, rng = History(connection), random.Random(11)
    await made.start()
    for part in range(_PARTITIONS):
        occurred = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=part)
        events = []
        for number in range(20):
            values: dict[str, Any] = {"occurred_at": occurred + timedelta(hours=rng.randrange(40))}
            if number in {3, 17}:
                values |= {name: value for each in _RARE.values() for name, value in each.items()}
                values["event_type"] = values.pop("event_types")[0]
                values["metadata"] = {"tags": [*values.pop("tags"), "everywhere"]}
            else:
                values["metadata"] = {"tags": ["everywhere"]}
            events.append(random_event(rng).model_copy(update=values))
        await made.append(events)
        if part < _PARTITIONS - 1:
            await made.roll()
    yield made
    await connection.close(timeout=5)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresEventStore]:
    """Of one connection, so that its plans can be asked for."""
    async with PostgresEventStore(ReaderSettings(dsn=database.reader_url, pool_size=1)) as made:
        yield made


def _rare(history: History) -> list[RecordedEvent]:
    return [event for event in history.events if event.actor_id == "rare"]


async def _statement(store: PostgresEventStore, options: QueryOptions) -> Statement:
    """The first one that looks into many partitions."""
    scan, _ceiling = await store._scan(options, chunk=100, limit=100)
    statement = scan.first()
    while statement is not None and not statement.rare:
        statement = scan.next(await store._fetch(statement))
    assert statement is not None
    return statement


async def test_every_kind_of_value_is_found_in_every_order(
    history: History, store: PostgresEventStore
) -> None:
    wanted = _rare(history)
    for kind, filters in _RARE.items():
        for descending in (False, True):
            for order_by, key in _KEYS.items():
                options = QueryOptions(**filters, order_by=order_by, descending=descending)
                ordered = sorted(wanted, key=key, reverse=descending)
                assert list((await store.get_events(options)).events) == ordered, kind
                part = await store.get_events(options.replace(limit=5, offset=7))
                assert list(part.events) == ordered[7:12], kind


async def test_plans_are_made_once_and_use_the_index_of_their_value(
    history: History, store: PostgresEventStore
) -> None:
    leaves = await history.connection.fetch("SELECT name FROM penstock.partitions WHERE state = 'closed'")
    for setting in ("plan_cache_mode = force_generic_plan", "search_path = pg_catalog, penstock, pg_temp"):
        await store._pool.fetch(f"SET {setting}")  # as the function does: EXPLAIN shows the plan that it made
    for kind, filters in _RARE.items():
        for _ in range(3):
            await store.get_events(QueryOptions(**filters))
        kept = await store._pool.fetch(_KEPT, (f"penstock.{kind}.%",))
        assert len(leaves) // 2 < len(kept) <= len(leaves), kind  # the first few were planned
        assert {(row["generic_plans"], row["custom_plans"]) for row in kept} == {(3, 0)}, kind
        name = kept[0]["name"]
        value = {"tags": '["rare"]', "payload": "{}"}.get(kind, "rare")
        plan = await store._pool.fetch(f"EXPLAIN EXECUTE \"{name}\" ('{value}', 100)")
        index = {"event_type": "type", "tenant_id": "key"}.get(kind, kind.removesuffix("_id"))
        assert f"{name.split('.')[2]}_{index}" in "\n".join(row[0] for row in plan), kind


async def test_a_value_that_is_not_rare_is_read_as_any_other(
    history: History, store: PostgresEventStore
) -> None:
    """Its first partitions held few: what they say of the rest may be wrong."""
    rng = random.Random(5)
    for _ in range(10):
        many = [random_event(rng).model_copy(update={"actor_id": "rare"}) for _ in range(50)]
        await history.append(many)
        await history.roll()
    options = QueryOptions(actor_id="rare", limit=60)
    wanted = _rare(history)
    assert list((await store.get_events(options)).events) == wanted[:60]
    newest = options.replace(descending=True, order_by=OrderBy.EVENT_ID)
    found = (await store.get_events(newest)).events
    assert [event.event_id for event in found] == sorted((e.event_id for e in wanted), reverse=True)[:60]
    assert [event async for event in store.stream(QueryOptions(actor_id="rare"))] == wanted


async def test_partitions_dropped_meanwhile_hold_nothing(history: History, store: PostgresEventStore) -> None:
    """Before a session had a plan for them, and after."""
    for number in (5, 6):
        statement = await _statement(store, QueryOptions(actor_id="rare"))
        assert statement.otherwise is not None
        leaf = await history.connection.fetchval(
            "SELECT name FROM penstock.partitions WHERE state = 'closed' ORDER BY lower OFFSET $1 LIMIT 1",
            number,
        )
        first, last = await history.connection.fetchrow(
            "SELECT first_sequence, last_sequence FROM penstock.partitions WHERE name = $1", leaf
        )
        whole = await store._fetch(statement)
        if number == 5:
            await store._pool.fetch(f'DEALLOCATE "penstock.actor_id.{leaf}"')
        await history.connection.execute("SELECT penstock.drop_partition($1)", leaf)
        rows = await store._fetch(statement)
        assert rows == [row for row in whole if not first <= row["sequence"] <= last]
        assert len(rows) < len(whole)
