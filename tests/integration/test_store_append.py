"""Appends to PostgreSQL beside what the contract says of every backend: partitions, roles, deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from fixtures.databases import Database
from fixtures.history import History
from fixtures.tcp_proxy import proxied
from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store import _upkeep
from penstock_store.appending import prepare
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._append import _APPEND, _arguments
from penstock_store.postgresql.store import PostgresStore, StoreSettings
from penstock_store.read_errors import CircuitOpen, StoreRefused, StoreUnavailable
from penstock_store.store_errors import AppendConflict, WrongExpectedVersion

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


_WAITS = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database.url, timeout=10)
    yield connection
    await connection.close(timeout=5)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(database.writer_url) as opened:
        yield opened


def _event(entity: str = "e1", **fields: Any) -> Event:
    return Event(event_type="order.placed", entity_id=entity, **fields)


@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "closed"])
async def test_keys_and_versions_of_every_partition_count(
    store: PostgresStore, owner: Connection, seal: bool
) -> None:
    history = History(owner)
    first = [await store.append(_event(entity=f"e{n}", idempotency_key=f"k{n}")) for n in range(3)]
    for _ in range(3):
        await history.roll(seal=seal)
        await store.append(_event("other"))
    again = await store.append_batch(
        [_event(entity=f"e{n}", idempotency_key=f"k{n}") for n in (2, 0)] + [_event("e9")]
    )
    assert [(one.stored, one.sequence) for one in again[:2]] == [(False, first[n].sequence) for n in (2, 0)]
    assert again[2].stored
    with pytest.raises(AppendConflict):
        await store.append(_event("another", idempotency_key="k1"))
    with pytest.raises(WrongExpectedVersion) as caught:
        await store.append(_event("e1"), expected_version=0)
    assert caught.value.actual == first[1].sequence
    assert (await store.append(_event("e1"), expected_version=first[1].sequence)).stored
    dropped = await owner.fetchval("SELECT name FROM penstock.partitions ORDER BY lower LIMIT 1")
    if seal:  # what retention dropped is forgotten with it
        await owner.execute("SELECT penstock.drop_partition($1)", dropped)
        assert (await store.append(_event("e0"), expected_version=0)).stored


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_an_append_that_waits_behind_a_roll_is_read_whatever_the_isolation(
    owner: Connection, database: Database, level: str
) -> None:
    """With the snapshot of before the wait it would go into a partition that is known to be empty."""
    await owner.execute(f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = '{level}'")
    history = History(owner)
    await history.start()
    async with PostgresStore(database.writer_url) as store:
        async with owner.transaction(isolation="read_committed"):
            await history.roll(seal=False)
            appending = asyncio.create_task(store.append(_event()))
            await wait_for_async(partial(owner.fetchval, _WAITS), 10, "the append to wait")
            await owner.execute(
                "SELECT penstock.close_partition(name) FROM penstock.partitions WHERE state = 'closed'"
            )
        result = await asyncio.wait_for(appending, 10)
        assert [event.sequence async for event in store.stream()] == [result.sequence]


async def test_the_first_append_makes_the_first_partition(store: PostgresStore, owner: Connection) -> None:
    assert await owner.fetchval("SELECT count(*) FROM penstock.partitions") == 0
    results = await asyncio.gather(*(store.append(_event(f"e{n}")) for n in range(8)))
    assert sorted(result.sequence for result in results) == list(range(1, 9))
    states = await owner.fetch("SELECT state FROM penstock.partitions ORDER BY lower")
    assert [row[0] for row in states] == ["current", "future"]


async def test_a_roll_that_is_due_follows_the_append(store: PostgresStore, owner: Connection) -> None:
    await owner.execute("UPDATE penstock.settings SET partition_interval = '1 second'")
    await store.append(_event())
    first = await owner.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")

    async def rolled() -> bool:
        await store.append(_event())
        return bool(
            await owner.fetchval("SELECT name <> $1 FROM penstock.partitions WHERE state = 'current'", first)
        )

    await wait_for_async(rolled, 20, "a roll")
    bounds = await owner.fetch(
        "SELECT p.name FROM penstock.events e"
        " JOIN penstock.partitions p ON 'penstock.' || p.name = e.tableoid::regclass::text"
        " WHERE NOT (e.recorded_at >= p.lower AND e.recorded_at < p.upper)"
    )
    assert bounds == []


async def _leave_days_ago(owner: Connection) -> datetime:
    """The current partition is one of three days ago, as where nothing happened since; its end."""
    await owner.execute("SELECT penstock.create_partition(clock_timestamp() - interval '3 days')")
    assert await owner.fetchval("SELECT penstock.roll(clock_timestamp() - interval '3 days')") == "rolled"
    upper: datetime = await owner.fetchval("SELECT upper FROM penstock.partitions WHERE state = 'current'")
    return upper


async def test_the_first_append_after_quiet_days_is_of_now(store: PostgresStore, owner: Connection) -> None:
    """Not of the end of the partition that was current: retention drops that, and `recorded_since` passes
    over it.
    """
    upper = await _leave_days_ago(owner)
    before = await owner.fetchval("SELECT clock_timestamp()")
    results = await asyncio.gather(*(store.append(_event(f"e{n}")) for n in range(8)))
    assert min(result.recorded_at for result in results) >= before
    assert await owner.fetchval("SELECT state FROM penstock.partitions WHERE upper = $1", upper) == "closed"


async def test_a_roll_that_cannot_pass_stops_no_append(store: PostgresStore, owner: Connection) -> None:
    """Behind a worker stopped in its batch the partition of days ago has to do, a minute at a time."""
    upper = await _leave_days_ago(owner)
    await owner.execute("ALTER FUNCTION penstock.roll(timestamptz) SET lock_timeout = '50ms'")
    await owner.execute("SELECT pg_advisory_lock_shared(1346719315, 1)")  # as a batch under way
    with capture_logs() as logs:
        for _ in range(3):
            assert (await store.append(_event())).recorded_at == upper - timedelta(microseconds=1)
    assert [log["event"] for log in logs] == ["upkeep_failed"]


async def test_an_append_publishes_its_mark(store: PostgresStore, owner: Connection) -> None:
    await store.append(_event())
    result = await store.append(_event())
    await wait_for_async(partial(_published, owner, result.sequence), 10, "the mark")


async def test_a_mark_that_could_not_be_published_follows_without_another_append(
    store: PostgresStore, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_upkeep, "_AGAIN_SECONDS", 0.05)
    await owner.execute("REVOKE EXECUTE ON FUNCTION penstock.publish() FROM penstock_writer")
    with capture_logs() as logs:
        result = await store.append(_event())
        await wait_for_async(lambda: any(log["event"] == "upkeep_failed" for log in logs), 10, "a failure")
        await owner.execute("GRANT EXECUTE ON FUNCTION penstock.publish() TO penstock_writer")
        await wait_for_async(partial(_published, owner, result.sequence), 10, "the mark")


async def test_a_roll_that_could_not_pass_is_not_tried_with_every_append(
    store: PostgresStore, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody else waits behind it."""
    monkeypatch.setattr(_upkeep, "_AGAIN_SECONDS", 0.05)
    await owner.execute("UPDATE penstock.settings SET partition_interval = '1 second'")
    await store.append(_event())
    await owner.execute("REVOKE EXECUTE ON FUNCTION penstock.roll() FROM penstock_writer")
    with capture_logs() as logs:

        async def refused() -> bool:
            await store.append(_event())
            return bool(logs)

        await wait_for_async(refused, 20, "a roll that fails")
        for _ in range(5):
            result = await store.append(_event())
            await wait_for_async(partial(_published, owner, result.sequence), 10, "the mark")
        await store.close()
    assert [log["event"] for log in logs] == ["upkeep_failed"]


async def _published(owner: Connection, sequence: int) -> bool:
    return bool(await owner.fetchval("SELECT sequence >= $1 FROM penstock.high_water", sequence))


async def test_a_close_that_is_cancelled_leaves_no_connection(database: Database, owner: Connection) -> None:
    store = PostgresStore(StoreSettings(dsn=database.writer_url, application_name="left", close_timeout=60.0))
    await store.append(_event())
    await store.get_events()
    async with owner.transaction():
        await owner.execute("SELECT pg_advisory_xact_lock(1346719315, 1)")
        append = asyncio.create_task(store.append(_event()))
        await wait_for_async(
            lambda: owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"), 10, "a wait"
        )
        close = asyncio.create_task(store.close())
        await wait_for_async(lambda: store._writes.closed, 10, "close() to begin")
        close.cancel()
        await asyncio.wait({close, append}, timeout=20)
        assert close.cancelled()
        assert isinstance(append.exception(), StoreUnavailable)

    async def gone() -> bool:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left'"
        return await owner.fetchval(left) == 0

    await wait_for_async(gone, 10, "the connections to end")


async def test_a_writer_may_append_and_no_one_else(database: Database, store: PostgresStore) -> None:
    await store.append(_event())
    await store.create_snapshot("k", 1, sequence=1)
    async with PostgresStore(database.reader_url) as reader:
        assert (await reader.get_snapshot("k")) is not None
        for attempt in (reader.append(_event()), reader.create_snapshot("k", 1, sequence=2)):
            with pytest.raises(StoreRefused, match="penstock_writer"):
                await attempt
    connection = await asyncpg.connect(database.writer_url, timeout=10)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM penstock.snapshots")
    finally:
        await connection.close(timeout=5)


async def test_an_append_behind_a_stopped_writer_ends_in_time(database: Database, owner: Connection) -> None:
    settings = StoreSettings(dsn=database.writer_url, command_timeout=1.0)
    async with PostgresStore(settings) as store:
        await store.append(_event())
        async with owner.transaction():
            await owner.execute("SELECT pg_advisory_xact_lock(1346719315, 1)")
            event = _event()
            with pytest.raises(StoreUnavailable, match="call again with the same events"):
                await store.append(event)
        assert (await store.append(event)).sequence > 0

        async def both() -> bool:
            return len((await store.get_events()).events) == 2

        # the mark waits for the first attempt's transaction, which its server ends by itself
        await wait_for_async(both, 10, "both to be read")


async def test_a_repeat_after_a_lost_connection_stores_once(store: PostgresStore, owner: Connection) -> None:
    await store.append(_event())
    await owner.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'penstock-store' AND datname = current_database()"
    )
    assert (await store.append(_event())).stored


async def test_an_append_whose_answer_was_lost_is_not_sent_again(
    database: Database, owner: Connection
) -> None:
    """The repeat would find its own event and call it somebody else's: nobody would act on it."""
    with proxied(database.writer_url) as proxy:
        async with PostgresStore(proxy.url(database.writer_url)) as store:
            await store.append(_event())
            event = _event("answer-is-lost")
            proxy.swallow_answer_to(b"answer-is-lost")
            with pytest.raises(StoreUnavailable, match="call again with the same events"):
                await store.append(event)
            assert proxy.swallowed.is_set()
            assert await owner.fetchval("SELECT count(*) FROM penstock.events") == 2
            assert not (await store.append(event)).stored


async def test_an_append_that_was_not_sent_is_tried_again(database: Database, owner: Connection) -> None:
    with proxied(database.writer_url) as proxy:
        settings = StoreSettings(dsn=proxy.url(database.writer_url), attempts=100, breaker_failures=100)
        async with PostgresStore(settings) as store:
            proxy.cut()
            accepted = proxy.connections
            append = asyncio.create_task(store.append(_event()))
            await wait_for_async(lambda: proxy.connections > accepted, 10, "an attempt")
            proxy.heal()
            assert (await append).stored


async def test_a_write_that_the_circuit_keeps_back_says_that_it_was_not_sent(database: Database) -> None:
    with proxied(database.writer_url) as proxy:
        settings = StoreSettings(dsn=proxy.url(database.writer_url), attempts=1, breaker_failures=1)
        async with PostgresStore(settings) as store:
            await store.append(_event())
            proxy.cut()
            with pytest.raises(StoreUnavailable):
                await store.append(_event())
            with pytest.raises(CircuitOpen, match="was not sent") as caught:
                await store.append(_event())
            assert "not known" not in str(caught.value)


async def test_an_append_waits_for_no_unrelated_transaction_and_live_readers_miss_none(
    store: PostgresStore, owner: Connection
) -> None:
    await store.append(_event())
    async with owner.transaction():
        await owner.execute("CREATE TABLE unrelated ()")
        writes = [asyncio.gather(*(store.append(_event(f"e{n}")) for n in range(20)))]
        async with asyncio.timeout(20):
            news = store.subscribe(options=QueryOptions(limit=21))
            seen = [event.sequence async for event in news]
        await writes[0]
    assert seen == sorted(seen)
    assert len(set(seen)) == 21


def _count(state: int, _event: RecordedEvent) -> int:
    return state + 1


async def test_a_state_never_passes_an_event_that_is_yet_to_commit(
    store: PostgresStore, owner: Connection
) -> None:
    """Plain appends to an entity do not wait for each other: above the mark one may be missing below another,
    and no expected version would notice.
    """
    first = await store.append(_event())
    slow = prepare([_event()], None)
    async with owner.transaction():
        row = await owner.fetchrow(_APPEND, *_arguments(slow), False)
        assert row is not None
        after = await store.append(_event())
        assert first.sequence < row["first_sequence"] < after.sequence
        loaded = await store.load("e1", _count, 0)
        assert (loaded.state, loaded.version) == (1, first.sequence)
    loaded = await store.load("e1", _count, 0)
    assert (loaded.state, loaded.version) == (3, after.sequence)


async def test_a_snapshot_without_a_sequence_passes_no_event_that_is_yet_to_commit(
    store: PostgresStore, owner: Connection
) -> None:
    first = await store.append(_event())
    slow = owner.transaction()
    await slow.start()
    await owner.fetchrow(_APPEND, *_arguments(prepare([_event("e2")])), False)
    await store.append(_event())
    await store.create_snapshot("k", 1)
    await slow.commit()
    found = await store.get_snapshot("k")
    assert found is not None
    assert found.sequence == first.sequence
    assert len([event async for event in store.stream_since(found.sequence)]) == 2


async def test_a_version_that_reads_have_not_reached_comes_with_the_mark(
    store: PostgresStore, owner: Connection
) -> None:
    before = await store.append(_event())
    async with owner.transaction():
        await owner.execute("SELECT penstock.reserve_sequences(1)")  # as a batch of a worker under way
        mine = await store.append(_event())
        assert (await store.load("e1", _count, 0)).version == before.sequence
        with pytest.raises(WrongExpectedVersion) as caught:
            await store.append(_event(), expected_version=before.sequence)
        assert caught.value.actual == mine.sequence
        # what the append itself answered is the version, reads or not
        after = await store.append(_event(), expected_version=mine.sequence)
        assert await store.safe_sequence() < caught.value.actual
    assert await store.safe_sequence() >= after.sequence
    assert (await store.load("e1", _count, 0)).version == after.sequence
