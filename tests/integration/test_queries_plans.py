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
from penstock_store.postgresql._windows import Window
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

_OPEN = Window(None, None)
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
        plans, statement = [], scan.first()
        while statement is not None:
            plans.append(await self.of(statement))
            statement = scan.next(await self.connection.fetch(statement.text, *statement.values))
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
    "id order": ({"order_by": OrderBy.EVENT_ID}, "_event_id"),
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
    plan = await plans.of(_select.select_event(history.events[0].event_id, _OPEN))
    assert f"{leaf}_event_id on {leaf}" in plan


async def test_time_ordered_pages_read_no_more_than_they_return(history: History, plans: Plans) -> None:
    """The order comes from the index, also behind a cursor: no sort of everything that matches."""
    await history.start()
    await history.append([_spread_event(number) for number in range(20_000)])
    await history.connection.execute("ANALYZE penstock.events")
    for filters in ({}, {"event_types": ["common"]}):
        options = QueryOptions(order_by=OrderBy.TIME, limit=10, **filters)
        page = await plans.store.get_events(options)
        for cursor in (None, page.next_cursor):
            (plan,) = await plans.page(options.replace(cursor=cursor))
            assert not [line for line in plan.splitlines() if re.search(r"-> +Sort ", line)], plan


@pytest.fixture
async def many(history: History) -> History:
    """Sixty sealed partitions of a few events each, and a current one."""
    await history.connection.execute("UPDATE penstock.settings SET leaf_indexes = '{lean}'")
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
        assert sum(map(_leaves, read)) <= 4, read  # with the current one, and that made ahead of it
    # a filter that nothing passes looks at every partition once, in a handful of statements
    read = await plans.page(QueryOptions(entity_id="none"))
    assert len(read) <= 7
    assert sum(map(_leaves, read)) <= _PARTITIONS + 2


async def test_time_bounds_open_the_partitions_they_need(many: History, plans: Plans) -> None:
    day = datetime(2026, 1, 20, tzinfo=UTC)
    for order_by in OrderBy:
        options = QueryOptions(since=day, until=day + timedelta(days=1), order_by=order_by)
        read = await plans.page(options)
        assert sum(map(_leaves, read)) <= 2, read


async def test_constraints_prune_where_the_catalogue_was_not_asked(many: History, plans: Plans) -> None:
    """The CHECK constraints of sealed partitions work under custom plans, which the reader's settings
    force.
    """
    middle = many.events[len(many.events) // 2].sequence
    options = QueryOptions(after_sequence=middle, up_to_sequence=middle + 5)
    statement = _select.select_events(options, window=_OPEN, ceiling=None, position=None, limit=10)
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
