"""Readers while writers write: pages stay valid, and a live reader sees every event exactly once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History, random_event
from fixtures.private_servers import PrivatePostgres
from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

_WRITERS = 12
_TRANSACTIONS = 15  # of each writer
_DEADLINE = 60.0


def _reader(database: Database, **changes: object) -> PostgresEventStore:
    values = {"dsn": database.reader_url, "poll_interval": 0.2, "stream_chunk": 5}
    return PostgresEventStore(ReaderSettings(**{**values, **changes}))  # type: ignore[arg-type]


async def _write_at_random(database: Database, seed: int, committed: list[RecordedEvent]) -> None:
    """Transactions of random sizes and lengths, each entity's events by one writer; a fifth roll back."""
    rng = random.Random(seed)
    connection = await asyncpg.connect(database.url, timeout=10)
    history = History(connection)
    for _ in range(_TRANSACTIONS):
        events = [
            Event(event_type="counted", entity_id=f"{seed}", payload={"n": len(history.events) + i})
            for i in range(rng.randrange(1, 8))
        ]
        await history.append(events, hold_seconds=rng.random() * 0.05, commit=rng.random() > 0.2)
    committed += history.events
    await connection.close(timeout=5)


async def _rolls(history: History, until: asyncio.Event) -> None:
    while not until.is_set():
        await history.roll(seal=True)
        await asyncio.wait({asyncio.ensure_future(until.wait())}, timeout=0.3)


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
async def test_a_live_reader_never_skips(
    database: Database, history: History, *, listen: bool, filtered: bool
) -> None:
    """Writers commit out of order, the partition rolls, and a writer elsewhere idles in its transaction."""
    options = QueryOptions(event_types=["counted"]) if filtered else QueryOptions()
    store, committed, done = _reader(database, listen=listen), list[RecordedEvent](), asyncio.Event()
    seen: list[RecordedEvent] = []

    async def follow() -> None:
        async with aclosing(store.subscribe(0, options)) as events:
            async for event in events:
                seen.append(event)  # noqa: PERF401 - seen while it goes on

    idle = await asyncpg.connect(database.admin_url, timeout=10)
    await idle.execute("CREATE TABLE unrelated (n int)")
    await idle.execute("BEGIN")
    await idle.execute("INSERT INTO unrelated VALUES (1)")  # has a transaction id, and keeps it

    follower, roller = asyncio.create_task(follow()), asyncio.create_task(_rolls(history, done))
    await asyncio.gather(*(_write_at_random(database, seed, committed) for seed in range(_WRITERS)))
    done.set()
    await roller
    await wait_for_async(lambda: len(seen) >= len(committed), _DEADLINE, "the live reader to see everything")
    follower.cancel()
    await asyncio.wait({follower})

    assert [event.sequence for event in seen] == sorted(event.sequence for event in committed)
    assert len(committed) > _WRITERS * _TRANSACTIONS
    by_entity = defaultdict(list)
    for event in seen:
        by_entity[event.entity_id].append(event.payload["n"])
    assert all(numbers == list(range(len(numbers))) for numbers in by_entity.values())
    await idle.execute("ROLLBACK")
    await idle.close(timeout=5)
    await store.close()


async def test_what_is_in_flight_is_waited_for_not_passed(database: Database, history: History) -> None:
    """Sequence 1 is drawn and not committed; 2 is committed: a reader sees neither, then both in order."""
    slow = await asyncpg.connect(database.url, timeout=10)
    late = asyncio.create_task(History(slow).append([random_event(random.Random(1))], hold_seconds=1.0))
    drawn = "SELECT last_value FROM penstock.event_sequence"
    await wait_for_async(lambda: history.connection.fetchval(drawn), what="the slow writer to draw")
    await history.append([random_event(random.Random(2))])
    async with _reader(database) as store:
        assert await store.safe_sequence() == 0
        assert (await store.get_events()).events == ()
        assert [event async for event in store.stream()] == []
        newest_first = await store.get_events(QueryOptions(descending=True))  # not bounded, and says so
        assert [event.sequence for event in newest_first.events] == [2]
        await late
        assert [event.sequence for event in (await store.get_events()).events] == [1, 2]
    await slow.close(timeout=5)


async def test_a_reader_may_come_before_the_first_partition(database: Database) -> None:
    connection = await asyncpg.connect(database.url, timeout=10)
    history = History(connection)
    options = QueryOptions(event_types=["wanted"])
    async with _reader(database) as store, aclosing(store.subscribe(0, options)) as events:
        assert (await store.get_events()).events == ()
        first = asyncio.create_task(anext(events))
        await history.start()
        await history.append([Event(event_type="other", entity_id="1")])
        await history.append([Event(event_type="wanted", entity_id="1")])
        assert (await asyncio.wait_for(first, _DEADLINE)).sequence == 2
    await connection.close(timeout=5)


async def test_a_notification_wakes_a_reader_that_hardly_polls(database: Database, history: History) -> None:
    async with _reader(database, poll_interval=3_600.0) as store, aclosing(store.subscribe()) as events:
        first = asyncio.create_task(anext(events))
        listening = """SELECT count(*) FROM pg_stat_activity
                       WHERE query LIKE 'LISTEN%' AND datname = current_database()"""
        await wait_for_async(lambda: history.connection.fetchval(listening), what="the reader to listen")
        await history.append([random_event(random.Random(3))])
        assert (await asyncio.wait_for(first, _DEADLINE)) == history.events[0]


async def test_a_live_reader_goes_on_after_its_connections_were_ended(
    database: Database, history: History
) -> None:
    admin = await asyncpg.connect(database.admin_url, timeout=10)
    end = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'penstock-reader'"""
    async with _reader(database) as store, aclosing(store.subscribe()) as events:
        for number in range(4):
            await history.append([random_event(random.Random(number))])
            event = await asyncio.wait_for(anext(events), _DEADLINE)
            assert event == history.events[number]
            assert await admin.fetchval(end) > 0
    await admin.close(timeout=5)


async def test_a_subscription_ends_where_it_was_told_to(database: Database, history: History) -> None:
    await history.append([random_event(random.Random(number)) for number in range(10)])
    await history.append([random_event(random.Random(99))], commit=False)  # sequence 11 is nobody's
    async with _reader(database) as store:
        taken = [event.sequence async for event in store.subscribe(3, QueryOptions(limit=4))]
        assert taken == [4, 5, 6, 7]
        taken = [event.sequence async for event in store.subscribe(8, QueryOptions(up_to_sequence=11))]
        assert taken == [9, 10]
        since = [event.sequence async for event in store.stream_since(7)]
        assert since == [8, 9, 10]
        edge = sorted(event.occurred_at for event in history.events)[5]
        later = [event async for event in store.stream_since(edge)]
        assert {event.sequence for event in later} == {
            event.sequence for event in history.events if event.occurred_at >= edge
        }


async def test_a_filtered_reader_stands_at_an_event_never_at_the_mark(
    database: Database, history: History
) -> None:
    """After a crash of the server, numbers that no stored event has may be given out again."""
    await history.append([random_event(random.Random(number)) for number in range(3)])
    options = QueryOptions(event_types=["never"], limit=1)
    async with _reader(database) as store, aclosing(store.subscribe(0, options)) as events:
        first = asyncio.create_task(anext(events))
        await history.append([random_event(random.Random(7))], commit=False)
        assert await store.safe_sequence() == 4
        await history.connection.execute("SELECT setval('penstock.event_sequence', 3)")  # as after a crash
        await history.append([Event(event_type="never", entity_id="4")])
        assert (await asyncio.wait_for(first, _DEADLINE)).sequence == 4


@pytest.mark.parametrize("statement", range(1, 6))
async def test_a_number_given_out_again_between_two_statements_is_not_passed_over(
    database: Database, history: History, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    """The newest event, to which a filtered reader moves, was looked up after its filter had seen nothing."""
    await history.append([random_event(random.Random(number)) for number in range(3)])
    await history.append([random_event(random.Random(7))], commit=False)
    options = QueryOptions(event_types=["never"], limit=1)
    async with _reader(database) as store, aclosing(store.subscribe(0, options)) as events:
        assert await store.safe_sequence() == 4
        fetch, count = store._pool.fetch, itertools.count(1)

        async def crash_before(text: str, values: Sequence[Any] = ()) -> list[asyncpg.Record]:
            if next(count) == statement:
                await history.connection.execute("SELECT setval('penstock.event_sequence', 3)")
                await history.append([Event(event_type="never", entity_id="4")])
            return await fetch(text, values)

        monkeypatch.setattr(store._pool, "fetch", crash_before)
        assert (await asyncio.wait_for(anext(events), _DEADLINE)).sequence == 4


@pytest.mark.parametrize("order_by", list(OrderBy))
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_stay_valid_while_events_arrive(
    database: Database, history: History, *, order_by: OrderBy, descending: bool
) -> None:
    """Nothing twice, nothing out of order, and nothing missing of what was there at the start."""
    rng = random.Random(5)
    await history.append([random_event(rng) for _ in range(60)])
    there = {event.sequence for event in history.events}
    options = QueryOptions(order_by=order_by, descending=descending, limit=7)
    seen: list[RecordedEvent] = []
    async with _reader(database) as store:
        page = await store.get_events(options)
        while page.events:
            seen += page.events
            if len(history.events) < 150:
                await history.append([random_event(rng) for _ in range(5)])
            page = await store.get_events(options.replace(cursor=page.next_cursor))
    keys = {
        OrderBy.TIME: [(event.occurred_at, event.sequence) for event in seen],
        OrderBy.EVENT_ID: [(event.event_id, event.sequence) for event in seen],
        OrderBy.SEQUENCE: [event.sequence for event in seen],
    }[order_by]
    assert keys == sorted(set(keys), reverse=descending)
    assert there <= {event.sequence for event in seen}
    if order_by is OrderBy.SEQUENCE and not descending:
        assert seen == history.events


async def test_a_live_reader_survives_a_crash_of_the_server(private_postgres: PrivatePostgres) -> None:
    """Numbers drawn and not committed before the crash are given out again after it: no event is passed
    over.
    """
    settings = ReaderSettings(dsn=private_postgres.reader_url, poll_interval=0.2, attempts=1)
    rng, written = random.Random(12), list[RecordedEvent]()
    options = QueryOptions(
        event_types=["order.placed", "order.paid"]
    )  # a filter: the position has to be kept apart
    async with PostgresEventStore(settings) as store, aclosing(store.subscribe(0, options)) as events:
        for _ in range(3):
            connection = await asyncpg.connect(private_postgres.url, timeout=10)
            history = History(connection)
            await history.start()
            await history.append([random_event(rng) for _ in range(8)])
            in_flight = asyncio.create_task(history.append([random_event(rng)], hold_seconds=600.0))
            wanted = [event for event in history.events if event.event_type in options.event_types]
            written += wanted
            seen = [await asyncio.wait_for(anext(events), _DEADLINE) for _ in wanted]
            assert seen == wanted
            await asyncio.to_thread(private_postgres.kill)
            await asyncio.wait({in_flight})
            assert in_flight.exception() is not None
            await asyncio.to_thread(private_postgres.start)
    assert [event.sequence for event in written] == sorted({event.sequence for event in written})
