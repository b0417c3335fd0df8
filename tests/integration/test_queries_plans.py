"""Plans on a real server: every filter has its index, and bounds keep a read away from most partitions."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History, random_event
from penstock_schemas import Event
from penstock_schemas._ids import new_id
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.postgresql import _select
from penstock_store.postgresql._catalogue import catalogue_of_id
from penstock_store.postgresql._windows import EVERYWHERE, window_around
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

_PARTITIONS = 60


class Plans:
    """EXPLAIN under the reader's own settings."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], store: PostgresEventStore) -> None:
        self.connection = connection
        self.store = store

    async def of(self, statement: _select.Statement) -> str:
        """The plan as text."""
        rows = await self.connection.fetch(f"EXPLAIN {statement.text}", *statement.values)
        return "\n".join(row[0] for row in rows)

    async def page(self, options: QueryOptions) -> list[str]:
        """The plans of a page's statements: as many as it takes to fill it, or to look everywhere."""
        scan, _ceiling = await self.store._scan(options, chunk=100, limit=options.limit or 100)
        plans, statement = [], scan.first() or await self.store._further(scan)
        while statement is not None:
            plans.append(await self.of(statement))
            rows = await self.connection.fetch(statement.text, *statement.values)
            statement = scan.next(rows) or await self.store._further(scan)
        return plans


@pytest.fixture
async def plans(database: Database) -> AsyncIterator[Plans]:
    settings = ReaderSettings(dsn=database.reader_url)
    connection = await asyncpg.connect(**settings.connection_options())
    async with PostgresEventStore(settings) as store:
        yield Plans(connection, store)
    await connection.close(timeout=5)


@pytest.fixture
async def history(database: Database) -> AsyncIterator[History]:
    connection = await asyncpg.connect(database.url, timeout=10)
    made = History(connection)
    yield made
    await connection.close(timeout=5)


def _leaves(plan: str) -> int:
    """How many partitions the plan reads."""
    return sum(
        "Scan" in line and " on events_" in line and "Bitmap Index" not in line for line in plan.splitlines()
    )


def _spread_event(number: int) -> Event:
    """Every column selective, so that the planner has a reason to use its index."""
    return Event(
        event_type=f"type.{number % 400}" if number % 2 else "common",
        entity_id=f"e{number % 3_000}",
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=(number * 7_919) % 500_000),
        actor_id=f"a{number % 1_000}",
        tenant_id=f"t{number % 500}",
        correlation_id=f"c{number // 5}",
        payload={"number": number, "state": f"s{number % 5_000}"},
        metadata={"tags": [f"tag{number % 5_000}"]},
    )


_FILTERS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "sequence": ({"after_sequence": 19_000}, "_sequence"),
    "time range": (
        {"since": datetime(2026, 1, 5, tzinfo=UTC), "until": datetime(2026, 1, 5, 1, tzinfo=UTC)},
        "_time",
    ),
    "time order": ({"order_by": OrderBy.TIME}, "_time"),
    "newest by time": ({"order_by": OrderBy.TIME, "descending": True}, "_time"),
    "id order": ({"order_by": OrderBy.EVENT_ID, "after_sequence": 7}, "_event_id"),
    "type": ({"event_types": ["type.7"]}, "_type"),
    "types": ({"event_types": ["type.7", "type.9"]}, "_type"),
    "type by time": ({"event_types": ["type.7"], "order_by": OrderBy.TIME}, "_type"),
    "actor": ({"actor_id": "a7"}, "_actor"),
    "correlation": ({"correlation_id": "c7"}, "_correlation"),
    "correlation by time": ({"correlation_id": "c7", "order_by": OrderBy.TIME}, "_correlation"),
    "entity": ({"entity_id": "e7"}, "_entity"),
    "tenant": ({"tenant_id": "t7"}, "_key"),
    "tags": ({"tags": ["tag7"]}, "_tags"),
    "payload": ({"payload": {"state": "s7"}}, "_payload"),
}


async def test_every_filter_and_order_uses_its_index(history: History, plans: Plans) -> None:
    await history.start()
    await history.append([_spread_event(number) for number in range(20_000)])
    await history.connection.execute("ANALYZE penstock.events")
    leaf = await history.connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    for name, (filters, index) in _FILTERS.items():
        plan = "\n".join(await plans.page(QueryOptions(**filters)))
        assert re.search(rf"{leaf}{index}\b", plan), f"{name}: {plan}"
        assert f"Seq Scan on {leaf}" not in plan, f"{name}: {plan}"
    plan = await plans.of(_select.select_event(history.events[0].event_id, EVERYWHERE))
    assert f"{leaf}_event_id on {leaf}" in plan


async def test_time_ordered_pages_read_no_more_than_they_return(history: History, plans: Plans) -> None:
    """The order comes from the index, also behind a cursor: no sort of everything that matches."""
    await history.start()
    await history.append([_spread_event(number) for number in range(20_000)])
    await history.connection.execute("ANALYZE penstock.events")
    leaf = await history.connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    for apart in (False, True):
        if apart:  # in the slice lies the current partition, too, which is no neighbour
            await history.roll()
            await history.append([_spread_event(-1)])
            await history.roll()
            await history.append([_spread_event(-2)])
        for filters in ({}, {"event_types": ["common"]}):
            options = QueryOptions(order_by=OrderBy.TIME, limit=10, **filters)
            page = await plans.store.get_events(options)
            for cursor in (None, page.next_cursor):
                (plan,) = await plans.page(options.replace(cursor=cursor))
                assert plan.count("->  Limit") == 2 * apart, plan
                assert re.search(rf"Index Scan using {leaf}_(time|type) ", plan), plan
                assert apart or not re.search(r"-> +Sort ", plan), plan


async def test_a_page_by_id_reads_no_more_than_it_returns(history: History, plans: Plans) -> None:
    """By the plan that the server keeps: it is made for any limit, and reads all where it expects a tenth."""
    await history.start()
    await history.append([_spread_event(number) for number in range(20_000)])
    await history.connection.execute("ANALYZE penstock.events")
    for descending in (False, True):
        options = QueryOptions(order_by=OrderBy.EVENT_ID, limit=10, descending=descending)
        page = await plans.store.get_events(options)
        wanted = sorted(history.events, key=lambda event: event.event_id.int, reverse=descending)[:20]
        assert list(page.events) == wanted[:10]
        options = options.replace(cursor=page.next_cursor)
        assert list((await plans.store.get_events(options)).events) == wanted[10:]
        scan, _ceiling = await plans.store._scan(options, chunk=10, limit=10)
        statement = scan.first()
        assert statement is not None
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}"
        for _ in range(2):  # what planning reads is counted the first time
            (plan,) = json.loads(await plans.connection.fetchval(explain, *statement.values))
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100, plan


async def test_a_tag_that_most_events_have_is_looked_for_in_those_that_a_rarer_one_finds(
    history: History, plans: Plans
) -> None:
    """The index read its list of most events once for each that the rarer tag has."""
    await history.start()
    await history.append(
        [
            _spread_event(number).model_copy(update={"metadata": {"tags": ["all", f"tag{number % 100}"]}})
            for number in range(3_000)
        ]
    )
    await history.roll()
    for tags, conditions in (
        (["all", "tag7"], ["Index Cond: ((metadata -> 'tags'::text) @> '[\"tag7\"]'", "jsonb_contains("]),
        (["tag7", "tag8"], ['["tag7", "tag8"]']),
        (["all"], ['["all"]']),
    ):
        options = QueryOptions(tags=tags, limit=50)
        plan = "\n".join(await plans.page(options))
        for condition in conditions:
            assert condition in plan, plan
        wanted = [event for event in history.events if set(tags) <= set(event.metadata["tags"])]
        assert list((await plans.store.get_events(options)).events) == wanted[:50]


_COPIES = """
INSERT INTO penstock.{leaf} (sequence, recorded_at, event_id, event_type, occurred_at, entity_id, tenant_id,
    correlation_id, schema_version, idempotency_key, content_hash, payload, metadata)
SELECT nextval('penstock.event_sequence'), date_trunc('day', recorded_at, 'UTC') + make_interval(secs => n),
    gen_random_uuid(), event_type, occurred_at, entity_id, tenant_id, correlation_id, schema_version,
    'copy-' || n, content_hash, payload, metadata
FROM penstock.{leaf}, generate_series(1, 30000) AS n
"""


async def test_a_chunk_is_read_without_sorting_its_partition_whatever_statistics_there_are(
    history: History, plans: Plans
) -> None:
    """Just written, or just closed: a stream sorted all of the partition for each chunk until autovacuum
    came.
    """
    await history.start()
    leaf = await history.connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await history.connection.execute(f"ALTER TABLE penstock.{leaf} SET (autovacuum_enabled = false)")
    await history.append([_spread_event(1)])
    await history.connection.execute(_COPIES.format(leaf=leaf))
    for state in ("current", "sealed"):
        if state == "sealed":
            await history.roll()
        scan, _ceiling = await plans.store._scan(QueryOptions(after_sequence=500), chunk=100, limit=None)
        statement = scan.first()
        assert statement is not None
        plan = await plans.of(statement)
        assert f"Index Scan using {leaf}_sequence" in plan, f"{state}: {plan}"
        assert not re.search(r"-> +Sort ", plan), f"{state}: {plan}"


async def test_a_span_of_recorded_at_is_read_without_the_rest_of_its_partition(
    history: History, plans: Plans
) -> None:
    """By sequence alone it filtered away all that was recorded before: a second, behind a million events."""
    await history.start()
    leaf, lower = await history.connection.fetchrow(
        "SELECT name, lower FROM penstock.partitions WHERE state = 'current'"
    )
    await history.append([_spread_event(1)])
    await history.connection.execute(_COPIES.format(leaf=leaf))
    await history.connection.execute(f"ANALYZE penstock.{leaf}")
    since = lower + timedelta(hours=8)
    options = QueryOptions(recorded_since=since, recorded_until=since + timedelta(seconds=50))
    assert f"{leaf}_recorded" in "\n".join(await plans.page(options))
    assert len((await plans.store.get_events(options)).events) == 50


@pytest.fixture
async def many(history: History) -> History:
    """Sixty sealed partitions of a few events each, and a current one."""
    await history.connection.execute("UPDATE penstock.settings SET leaf_indexes = '{payload}'")
    await history.start()
    rng = random.Random(8)
    for number in range(_PARTITIONS):
        occurred = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
        await history.append(
            [
                random_event(rng).model_copy(update={"occurred_at": occurred + timedelta(hours=h)})
                for h in range(10)
            ]
        )
        await history.roll()
    return history


async def test_reads_by_sequence_open_the_partitions_they_need(many: History, plans: Plans) -> None:
    middle = many.events[len(many.events) // 2].sequence
    for options in (
        QueryOptions(limit=5),
        QueryOptions(after_sequence=middle, limit=5),
        QueryOptions(descending=True, up_to_sequence=middle, limit=5),
        QueryOptions(after_sequence=middle, up_to_sequence=middle + 5),
    ):
        read = await plans.page(options)
        assert sum(map(_leaves, read)) <= 5, read  # one, where that is not enough four more
    # what leaves no fingerprints is looked for in every partition once, in a handful of statements
    read = await plans.page(QueryOptions(payload={"state": {"none": 1}}))
    assert len(read) <= 7
    assert sum(map(_leaves, read)) <= _PARTITIONS + 2


_ONE_OF: Mapping[str, Any] = {
    "entity_id": "order-of-that-day",
    "actor_id": "actor-of-that-day",
    "correlation_id": "cart-of-that-day",
    "tenant_id": "tenant-of-that-day",
    "event_types": ["type.of.that.day"],
    "tags": ["tag-of-that-day"],
    "payload": {"day": 1.50},
}
_NONE: Mapping[type, Any] = {str: "none", list: ["none"], dict: {"day": 1.51}}


@pytest.mark.parametrize("order_by", [OrderBy.SEQUENCE, OrderBy.TIME])
async def test_filters_open_the_partitions_that_hold_their_value(
    many: History, plans: Plans, order_by: OrderBy
) -> None:
    """Whatever the number of partitions: sealed ones are asked by their fingerprints, not one by one."""
    rare = {name: value for name, value in _ONE_OF.items() if isinstance(value, str)}
    event = random_event(random.Random(1)).model_copy(
        update=rare
        | {
            "event_type": "type.of.that.day",
            "metadata": {"tags": ["tag-of-that-day"]},
            "payload": _ONE_OF["payload"],
        }
    )
    await many.append([event])
    await many.roll()
    await many.append([random_event(random.Random(2))])
    for name, value in _ONE_OF.items():
        for wanted, found in ((value, 1), (_NONE[type(value)], 0)):
            options = QueryOptions(**{name: wanted}, order_by=order_by)
            page = await plans.store.get_events(options)
            assert len(page.events) == found, name
            read = await plans.page(options)
            assert sum(map(_leaves, read)) <= 4, f"{name}: {read}"  # with those not sealed, once or twice


async def test_time_order_opens_the_partitions_that_the_page_needs(many: History, plans: Plans) -> None:
    for descending in (False, True):
        options = QueryOptions(order_by=OrderBy.TIME, descending=descending, limit=5)
        page = await plans.store.get_events(options)
        for asked in (options, options.replace(cursor=page.next_cursor)):
            read = await plans.page(asked)
            assert sum(map(_leaves, read)) <= 6, read  # a day's, and those not sealed, in two slices


async def test_time_bounds_open_the_partitions_they_need(many: History, plans: Plans) -> None:
    day = datetime(2026, 1, 20, tzinfo=UTC)
    for order_by in OrderBy:
        options = QueryOptions(since=day, until=day + timedelta(days=1), order_by=order_by)
        read = await plans.page(options)
        assert sum(map(_leaves, read)) <= 2, read


async def test_constraints_prune_where_the_catalogue_was_not_asked(many: History, plans: Plans) -> None:
    """The CHECK constraints of sealed partitions serve other readers' SQL, which knows no catalogue."""
    middle = many.events[len(many.events) // 2].sequence
    options = QueryOptions(after_sequence=middle, up_to_sequence=middle + 5)
    statement = _select.select_events(options, window=EVERYWHERE, ceiling=None, position=None, limit=10)
    await plans.connection.execute("SET constraint_exclusion = partition")  # PostgreSQL's default
    for _ in range(8):  # a plan cached after five uses would be generic
        await plans.connection.fetch(statement.text, *statement.values)
    assert _leaves(await plans.of(statement)) <= 4  # its own, and those that are not sealed
    assert await plans.connection.fetchval("SHOW plan_cache_mode") == "force_custom_plan"


async def test_an_event_is_found_near_the_time_its_id_was_made(
    database: Database, many: History, plans: Plans
) -> None:
    made = new_id()
    await many.append([random_event(random.Random(9)).model_copy(update={"event_id": made})])
    for wanted in (many.events[0], many.events[333], many.events[-1]):
        async with PostgresEventStore(database.reader_url) as store:
            assert await store.get_event(wanted.event_id) == wanted
            assert await store.get_event(new_id()) is None
            assert await store.get_event(uuid.uuid4()) is None
            around = await store._around(made)
    assert len(around) == 1
    assert _leaves(await plans.of(_select.select_event(made, around[0]))) <= 3
    for foreign in (many.events[0].event_id, uuid.UUID(int=7)):
        text, values = catalogue_of_id(foreign)
        rows = await plans.connection.fetch(text, *values)
        read = [await plans.of(_select.select_event(foreign, window)) for window in window_around(rows)]
        assert sum(map(_leaves, read)) <= 3, read


async def test_a_page_is_the_same_while_partitions_are_dropped(database: Database, many: History) -> None:
    """A cursor outlives the partition it was made in: the page goes on with what is still there."""
    async with PostgresEventStore(database.reader_url) as store:
        page = await store.get_events(QueryOptions(limit=5))
        names = [
            row["name"]
            for row in await many.connection.fetch(
                "SELECT name FROM penstock.partitions ORDER BY lower LIMIT 3"
            )
        ]
        for name in names:
            await many.connection.execute("SELECT penstock.drop_partition($1)", name)
        page = await store.get_events(QueryOptions(limit=5, cursor=page.next_cursor))
        assert [event.sequence for event in page.events] == [event.sequence for event in many.events[30:35]]
        assert json.loads(page.events[0].model_dump_json())["sequence"] == 31
