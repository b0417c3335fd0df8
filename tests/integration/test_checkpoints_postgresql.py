"""Checkpoints among real writers, over restarts, and where retention drops partitions."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import asyncpg
import pytest
from structlog.testing import capture_logs

from fixtures.databases import Database
from fixtures.history import History
from fixtures.tcp_proxy import proxied
from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store._common import EVERYTHING
from penstock_store.checkpoint_errors import EventsExpired
from penstock_store.contract import QueryOptions
from penstock_store.partitions import drop
from penstock_store.postgresql.store import PostgresStore, StoreSettings
from penstock_store.projections import ProjectionRunner, projection, rebuild

_WRITERS = 100
_TRANSACTIONS = 4  # of each writer
_SUBSCRIBERS = 3


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    async with _opened(database) as opened:
        yield opened


def _opened(database: Database) -> PostgresStore:
    return PostgresStore(StoreSettings(dsn=database.writer_url, poll_interval=0.2, stream_chunk=20))


def _events(count: int, kind: str = "counted") -> list[Event]:
    return [Event(event_type=kind, entity_id=f"e{n % 3}", payload={"n": n}) for n in range(count)]


async def _write(connection: asyncpg.Connection[asyncpg.Record], number: int) -> list[RecordedEvent]:
    """Transactions of random sizes and lengths for one entity; a quarter of them roll back."""
    chance = random.Random(number)
    history = History(connection)
    for _ in range(_TRANSACTIONS):
        events = [
            Event(event_type="counted", entity_id=f"{number}", payload={"n": len(history.events) + n})
            for n in range(chance.randrange(1, 6))
        ]
        await history.append(
            events, hold_seconds=chance.choice([0, 0.001, 0.02, 0.1]), commit=chance.random() > 0.25
        )
    return history.events


async def _subscribe(
    database: Database, name: str, seen: list[RecordedEvent], last: asyncio.Future[int]
) -> None:
    """Restarted after every 97 events, each time with a store and connections of its own, in the middle of
    what the writers do.
    """
    while not (last.done() and seen and seen[-1].sequence >= last.result()):
        async with (
            _opened(database) as store,
            store.checkpoint(name) as checkpoint,
            aclosing(checkpoint.subscribe()) as events,
        ):
            async for event in events:
                seen.append(event)
                await checkpoint.save(event.sequence)
                if len(seen) % 97 == 0 or (last.done() and event.sequence >= last.result()):
                    break


async def test_named_subscribers_see_each_event_once_among_a_hundred_writers(
    database: Database, history: History
) -> None:
    seen: list[list[RecordedEvent]] = [[] for _ in range(_SUBSCRIBERS)]
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    links = await _connect(database.url, _WRITERS)
    unrelated = await asyncpg.connect(database.admin_url, timeout=10)
    try:
        # A writing transaction elsewhere in the server, idle, older than all: it must delay nobody. It ends
        # only after the subscribers have seen everything.
        async with unrelated.transaction(isolation="repeatable_read"):
            await unrelated.execute("CREATE TABLE public.unrelated (id int)")
            following = [
                asyncio.create_task(_subscribe(database, f"s{n}", mine, last)) for n, mine in enumerate(seen)
            ]
            written = await asyncio.gather(*(_write(link, n) for n, link in enumerate(links)))
            ordered = sorted((e for part in written for e in part), key=lambda event: event.sequence)
            await history.append(_events(1))  # what waiting subscribers are woken by
            ordered += history.events
            last.set_result(ordered[-1].sequence)
            await asyncio.wait_for(asyncio.gather(*following), 60)
    finally:
        for link in (*links, unrelated):
            link.terminate()
    by_entity = defaultdict(list)
    for event in seen[0]:
        by_entity[event.entity_id].append(event.payload["n"])
    for mine in seen:
        assert max(Counter(event.event_id for event in mine).values()) == 1
        assert mine == ordered
    for number, part in enumerate(written):
        assert by_entity.get(f"{number}", []) == [event.payload["n"] for event in part]


async def _connect(url: str, count: int) -> list[asyncpg.Connection[asyncpg.Record]]:
    made: list[asyncpg.Connection[asyncpg.Record]] = []
    for _ in range(0, count, 10):
        made.extend(await asyncio.gather(*(asyncpg.connect(url, timeout=30) for _ in range(10))))
    return made


async def _drop_oldest(history: History) -> int:
    """Close and drop the current partition; the last sequence that went."""
    name = await history.connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await history.roll(seal=True)
    await drop(history.connection, name)
    dropped: int = history.events[-1].sequence
    return dropped


async def _read(store: PostgresStore, name: str, count: int, **terms: bool) -> list[int]:
    seen: list[int] = []
    async with (
        asyncio.timeout(30),
        store.checkpoint(name, **terms) as checkpoint,
        aclosing(checkpoint.subscribe()) as events,
    ):
        async for event in events:
            seen.append(event.sequence)
            await checkpoint.save(event.sequence)
            if len(seen) == count:
                break
    return seen


async def test_what_retention_dropped_unread_is_said(store: PostgresStore, history: History) -> None:
    await history.append(_events(10))
    assert await _read(store, "slow", 4) == [1, 2, 3, 4]
    assert await _read(store, "quick", 10) == list(range(1, 11))
    dropped = await _drop_oldest(history)
    await history.append(_events(5))
    assert await _read(store, "quick", 5) == [11, 12, 13, 14, 15]
    assert await _read(store, "new", 5) == [11, 12, 13, 14, 15]  # begins with what there is
    with pytest.raises(EventsExpired, match="accept_loss=True") as caught:
        await _read(store, "slow", 1)
    assert (caught.value.position, caught.value.expired_through) == (4, dropped)
    kept = await store.get_checkpoint("slow")
    assert kept is not None
    assert (kept.sequence, kept.owner) == (4, None)  # nothing was passed over
    assert await _read(store, "slow", 2, accept_loss=True) == [11, 12]
    assert await _read(store, "slow", 3) == [13, 14, 15]  # accepted once and for all


async def test_what_is_dropped_under_a_running_subscriber_is_said(
    store: PostgresStore, history: History
) -> None:
    await history.append(_events(100))
    async with (
        asyncio.timeout(30),
        store.checkpoint("running") as checkpoint,
        aclosing(checkpoint.subscribe()) as events,
    ):
        assert (await anext(events)).sequence == 1
        await _drop_oldest(history)
        await history.append(_events(5))

        async def read_on() -> None:
            async for event in events:
                assert event.sequence <= 100

        with pytest.raises(EventsExpired):
            await read_on()


async def test_a_filtered_subscription_that_looked_at_all_has_lost_nothing(
    store: PostgresStore, history: History
) -> None:
    await history.append(_events(1, "rare"))
    await history.append(_events(30))
    rare = QueryOptions(event_types=["rare"])
    async with asyncio.timeout(30), store.checkpoint("rare", lease=0.3) as checkpoint:
        events = checkpoint.subscribe(rare)
        await checkpoint.save((await anext(events)).sequence)
        waiting = asyncio.create_task(anext(events))
        while checkpoint.sequence < 31:
            await asyncio.wait({waiting}, timeout=0.05)
        waiting.cancel()
        await asyncio.wait({waiting})
    await _drop_oldest(history)
    await history.append(_events(1, "rare"))
    async with asyncio.timeout(30), store.checkpoint("rare") as checkpoint:
        async for event in checkpoint.subscribe(rare.replace(limit=1)):
            assert event.sequence == 32


async def test_a_state_is_not_folded_without_what_retention_dropped(
    store: PostgresStore, history: History
) -> None:
    def count(state: int, _event: RecordedEvent) -> int:
        return state + 1

    await history.append(_events(3))
    await store.load("e0", count, 0, name="old", snapshot_every=1)
    await history.append(_events(3))
    newest = await store.load("e2", count, 0, name="new", snapshot_every=1)
    assert (newest.state, newest.version) == (2, 6)
    dropped = await _drop_oldest(history)
    assert dropped == 6
    await history.append(_events(6))
    # Its snapshot stands at the last event that was dropped, so nothing is missing.
    assert (await store.load("e2", count, 0, name="new")).state == 4
    for name in ("old", "none"):
        with pytest.raises(EventsExpired, match="entity 'e0' of tenant 'default'") as caught:
            await store.load("e0", count, 0, name=name)
        assert caught.value.expired_through == dropped
    old = await store.load("e0", count, 0, name="old", accept_loss=True)
    assert (old.state, old.expired_through) == (3, dropped)  # the event behind the snapshot is missing


async def test_a_lost_answer_does_not_lock_out_its_own_claim(store: PostgresStore) -> None:
    """The pool repeats a statement whose connection was lost: the second claim finds the first one's name."""
    checkpoint = store.checkpoint("twice", wait=0)
    records = store.checkpoint_records()
    await records.claim(checkpoint._terms)
    async with checkpoint:
        assert checkpoint.kept.epoch == 2


class _Dropping(PostgresStore):
    """Retention drops the oldest partition after the first few events of a stream."""

    history: History | None = None

    async def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        async with aclosing(super().stream(options)) as events:
            async for event in events:
                yield event
                if self.history is not None:
                    history, self.history = self.history, None
                    await _drop_oldest(history)


@projection("count", initial=0)
def count(state: int, _event: RecordedEvent) -> int:
    return state + 1


async def test_a_rebuild_leaves_out_nothing_that_is_dropped_under_it(
    database: Database, history: History
) -> None:
    await history.append(_events(100))
    settings = StoreSettings(dsn=database.writer_url, poll_interval=0.2, stream_chunk=20)
    async with asyncio.timeout(60), _Dropping(settings) as store:
        await ProjectionRunner(store, count).run(once=True)
        for accept_loss in (False, True):  # what was dropped before was accepted, not what goes now
            store.history = history
            with pytest.raises(EventsExpired, match="rebuild of the projection 'count'"):
                await rebuild(store, count, accept_loss=accept_loss)
            kept = await store.get_checkpoint("projection/count")
            assert kept is not None
            assert kept.state == 100 + 30 * accept_loss
            await history.append(_events(30))
            await ProjectionRunner(store, count, accept_loss=True).run(once=True)
        assert (await rebuild(store, count, accept_loss=True)).events == 30


async def test_a_projection_starts_while_the_server_is_away(database: Database) -> None:
    with proxied(database.writer_url) as link:
        settings = StoreSettings(dsn=link.url(database.writer_url), command_timeout=5.0, poll_interval=0.2)
        async with PostgresStore(settings) as store:
            await store.append_batch(_events(3))
            link.cut()
            runner = ProjectionRunner(store, count)
            with capture_logs() as said:
                running = asyncio.create_task(runner.run(once=True))
                await wait_for_async(
                    lambda: running.done() or any(entry["event"] == "waits_for_store" for entry in said),
                    what="an attempt",
                )
            assert not running.done()
            link.heal()
            await asyncio.wait_for(running, 60)
            kept = await store.get_checkpoint("projection/count")
            assert kept is not None
            assert kept.state == 3
