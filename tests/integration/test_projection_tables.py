"""Table projections: exactly-once effect on a real server, whatever ends in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store.checkpoint_errors import (
    CheckpointLost,
    ProjectionFailed,
    StateVersionDiffers,
    TablesNotMade,
)
from penstock_store.postgresql.store import PostgresStore, StoreSettings
from penstock_store.projections import ProjectionRunner, TableProjection, projection, rebuild, statuses
from penstock_store.store_errors import NotSupported

_TOTALS = "SELECT coalesce(sum(amount), 0)::int FROM projection_orders.orders"


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """By the owner's login: its tables need the right to make a schema."""
    settings = StoreSettings(dsn=database.url, poll_interval=0.2, stream_chunk=7)
    async with PostgresStore(settings) as opened:
        yield opened


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.reader_url, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def _setup(connection: Any) -> None:
    await connection.execute(
        "CREATE TABLE orders (sequence bigint PRIMARY KEY, amount int CHECK (amount >= 0))"
    )


async def _seed(connection: Any, state: Any) -> None:
    await connection.execute("INSERT INTO orders VALUES (0, $1)", state["amount"])


async def _insert(connection: Any, event: RecordedEvent) -> None:
    await connection.execute("INSERT INTO orders VALUES ($1, $2)", event.sequence, event.payload["amount"])


def _orders(version: int = 1, factor: int = 1) -> TableProjection:
    @projection("orders", setup=_setup, seed=_seed, version=version)
    async def orders(connection: Any, event: RecordedEvent) -> None:
        amount = factor * event.payload["amount"]
        await connection.execute("INSERT INTO orders VALUES ($1, $2)", event.sequence, amount)

    return orders


def _events(*amounts: int) -> list[Event]:
    return [Event(event_type="paid", entity_id="42", payload={"amount": amount}) for amount in amounts]


async def test_writes_and_position_are_one(store: PostgresStore, reader: Any) -> None:
    await store.append_batch(_events(*range(20)))
    await ProjectionRunner(store, _orders()).run(once=True)
    assert await reader.fetchval(_TOTALS) == 190
    await store.append_batch(_events(10))
    await ProjectionRunner(store, _orders()).run(once=True)
    assert await reader.fetchval(_TOTALS) == 200  # a primary key would have told of a repeat


async def test_connections_that_end_in_the_middle_change_nothing(
    store: PostgresStore, reader: Any, database: Database
) -> None:
    """Each batch's backend is ended once: before COMMIT, and once more after it."""
    await store.append_batch(_events(*([1] * 30)))
    admin = await asyncpg.connect(database.admin_url, timeout=10)
    ended: set[int] = set()

    @projection("orders", setup=_setup)
    async def orders(connection: Any, event: RecordedEvent) -> None:
        await _insert(connection, event)
        if event.sequence % 10 == 5 and event.sequence not in ended:
            ended.add(event.sequence)
            await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
            await connection.execute("SELECT 1")

    await ProjectionRunner(store, orders).run(once=True)
    assert len(ended) == 3
    assert await reader.fetchval(_TOTALS) == 30
    await admin.close(timeout=5)


_LOCK_AT_COMMIT = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(7, 7); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
"""
_WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE datname = current_database() AND NOT granted AND locktype = $1
"""


async def test_a_commit_that_outlives_its_connection_is_not_done_twice(
    store: PostgresStore, database: Database
) -> None:
    """The second attempt finds the old position, waits for the first one's COMMIT, and must not pass it."""
    admin = await asyncpg.connect(database.admin_url, timeout=10)
    handled: list[int] = []
    connections: list[Any] = []

    async def setup(connection: Any) -> None:
        await connection.execute("CREATE TABLE orders (sequence bigint, amount int)")  # no key to stop it
        await connection.execute(_LOCK_AT_COMMIT)

    @projection("orders", setup=setup)
    async def orders(connection: Any, event: RecordedEvent) -> None:
        connections.append(connection)
        handled.append(event.sequence)
        await _insert(connection, event)

    await store.append_batch(_events(1, 2))
    await admin.execute("SELECT pg_advisory_lock(7, 7)")
    running = asyncio.create_task(ProjectionRunner(store, orders).run(once=True))
    await wait_for_async(lambda: admin.fetchval(_WAITING, "advisory"), what="a COMMIT under way")
    connections[0].terminate()
    await wait_for_async(lambda: admin.fetchval(_WAITING, "transactionid"), what="the second attempt")
    await admin.execute("SELECT pg_advisory_unlock(7, 7)")
    await asyncio.wait_for(running, 20)  # nor does it wait for its own lease
    assert await admin.fetchval(_TOTALS) == 3
    assert handled == [1, 2]
    await admin.close(timeout=5)


async def test_an_event_at_fault_is_found_in_its_batch(store: PostgresStore, reader: Any) -> None:
    results = await store.append_batch(_events(1, 2, 3, -1, 5))
    with pytest.raises(ProjectionFailed) as caught:
        await ProjectionRunner(store, _orders()).run(once=True)
    assert caught.value.event.sequence == results[3].sequence
    assert "orders_amount_check" in str(caught.value)
    assert await reader.fetchval(_TOTALS) == 6
    await ProjectionRunner(store, _orders(), skip={results[3].sequence}).run(once=True)
    assert await reader.fetchval(_TOTALS) == 11


async def test_a_fault_that_shows_at_commit_is_found_too(store: PostgresStore, reader: Any) -> None:
    async def setup(connection: Any) -> None:
        await connection.execute(
            "CREATE TABLE orders (sequence bigint, amount int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
        )

    results = await store.append_batch(_events(1, 2, 1, 3))
    with pytest.raises(ProjectionFailed) as caught:
        await ProjectionRunner(store, projection("orders", setup=setup)(_insert)).run(once=True)
    assert caught.value.event.sequence == results[2].sequence
    assert await reader.fetchval(_TOTALS) == 3


async def test_a_zombie_writes_nothing(store: PostgresStore, reader: Any) -> None:
    """It is stopped inside its handler while another one takes over: its transaction ends without effect."""
    await store.append_batch(_events(1))
    reached, go_on = asyncio.Event(), asyncio.Event()

    @projection("orders", setup=_setup)
    async def slow(connection: Any, event: RecordedEvent) -> None:
        if event.payload["amount"] == 2:
            reached.set()
            await go_on.wait()
        await _insert(connection, event)

    zombie = ProjectionRunner(store, slow)
    running = asyncio.create_task(zombie.run())
    await wait_for_async(lambda: _is(reader, 1), what="the first event")
    async with store.checkpoint("projection/orders", take=True, lease=3_600):
        await store.append_batch(_events(2))
        go_on.set()
        await asyncio.wait({asyncio.create_task(reached.wait())}, timeout=1)
        assert not reached.is_set()  # the fence comes before the handler
        assert await reader.fetchval(_TOTALS) == 1
    await wait_for_async(lambda: _is(reader, 3), what="the runner to go on after it")
    zombie.stop()
    await asyncio.wait_for(running, 30)


async def _is(reader: Any, wanted: int) -> bool:
    try:
        return bool(await reader.fetchval(_TOTALS) == wanted)
    except asyncpg.PostgresError:  # not there yet
        return False


async def test_readers_see_the_old_tables_until_the_new_ones_are_complete(
    store: PostgresStore, reader: Any
) -> None:
    await store.append_batch(_events(*([1] * 50)))
    runner = ProjectionRunner(store, _orders())
    running = asyncio.create_task(runner.run())
    await wait_for_async(lambda: _is(reader, 50), what="the past")
    prepared = await reader.prepare(_TOTALS)
    seen: set[int] = set()
    end = asyncio.Event()

    async def look() -> None:
        while not end.is_set():
            seen.add(await prepared.fetchval())

    looking = asyncio.create_task(look())
    await rebuild(store, _orders(factor=10))  # the same version: the runner goes on afterwards
    await store.append_batch(_events(1))
    await wait_for_async(lambda: 501 in seen, what="the runner to go on in the new tables")
    end.set()
    await looking
    assert seen == {50, 500, 501}
    rebuilt = await rebuild(store, _orders(version=2, factor=100))
    assert (rebuilt.version, rebuilt.events) == (2, 51)
    assert await reader.fetchval(_TOTALS) == 5_100
    with pytest.raises(StateVersionDiffers):  # its code is of the version before
        await asyncio.wait_for(running, 60)
    assert [status.name for status in await statuses(store)] == ["orders"]
    assert await reader.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'projection%'") == 1


async def test_an_interrupted_rebuild_goes_on_where_it_was(store: PostgresStore, reader: Any) -> None:
    await store.append_batch(_events(*([1] * 30)))
    await ProjectionRunner(store, _orders()).run(once=True)
    handled: list[int] = []
    broken = True

    @projection("orders", setup=_setup, version=2)
    async def fragile(connection: Any, event: RecordedEvent) -> None:
        if broken and event.sequence > 15:
            raise ConnectionError("elsewhere")
        handled.append(event.sequence)
        await _insert(connection, event)

    with pytest.raises(ProjectionFailed):
        await rebuild(store, fragile)
    assert await reader.fetchval(_TOTALS) == 30
    broken = False
    again = await rebuild(store, fragile)
    assert again.events == 15
    assert sorted(set(handled)) == list(range(1, 31))
    assert await reader.fetchval(_TOTALS) == 30


async def test_a_rebuild_is_seeded_from_a_snapshot(store: PostgresStore, reader: Any) -> None:
    results = await store.append_batch(_events(*([1] * 10)))
    await ProjectionRunner(store, _orders()).run(once=True)
    await store.create_snapshot("orders", {"amount": 1_000}, sequence=results[5].sequence)
    assert (await rebuild(store, _orders(), snapshot="orders")).events == 4
    assert await reader.fetchval(_TOTALS) == 1_004


async def test_tables_need_postgresql() -> None:
    from penstock_store.memory import MemoryEventStore

    with pytest.raises(NotSupported, match="postgresql"):
        await ProjectionRunner(MemoryEventStore(), _orders()).run(once=True)


def _failing_after(sequence: int, version: int) -> TableProjection:
    @projection("orders", setup=_setup, seed=_seed, version=version)
    async def failing(connection: Any, event: RecordedEvent) -> None:
        if event.sequence > sequence:
            raise ConnectionError("elsewhere")
        await _insert(connection, event)

    return failing


async def test_a_rebuild_of_another_version_begins_anew(store: PostgresStore, reader: Any) -> None:
    """Two versions given up in the middle: neither goes on in the tables of the other."""
    await store.append_batch(_events(*([1] * 30)))
    await ProjectionRunner(store, _orders()).run(once=True)
    for version, sequence in ((2, 15), (3, 8)):
        with pytest.raises(ProjectionFailed):
            await rebuild(store, _failing_after(sequence, version))
    again = await rebuild(store, _orders(version=2, factor=10))
    assert again.events == 30
    assert await reader.fetchval(_TOTALS) == 300
    assert [status.name for status in await statuses(store)] == ["orders"]


async def test_a_rebuild_from_elsewhere_begins_anew(store: PostgresStore, reader: Any) -> None:
    results = await store.append_batch(_events(*([1] * 30)))
    await ProjectionRunner(store, _orders()).run(once=True)
    await store.create_snapshot("wrong", {"amount": 1_000}, sequence=results[5].sequence)
    with pytest.raises(ProjectionFailed):
        await rebuild(store, _failing_after(15, 1), snapshot="wrong")
    assert (await rebuild(store, _orders())).events == 30
    assert await reader.fetchval(_TOTALS) == 30


async def test_what_was_left_out_may_be_left_out_of_a_rebuild(store: PostgresStore, reader: Any) -> None:
    """What an interrupted one folded with another choice is not gone on with."""
    results = await store.append_batch(_events(1, 2, -1, 4, 5, 6, 7, 8, 9))  # two transactions
    skip = {results[2].sequence}
    await ProjectionRunner(store, _orders(), skip=skip).run(once=True)
    with pytest.raises(ProjectionFailed, match=f"--skip {results[2].sequence}"):
        await rebuild(store, _orders())
    with pytest.raises(ProjectionFailed):  # stopped behind what it left out too much of
        await rebuild(store, _failing_after(results[6].sequence, 1), skip={*skip, results[0].sequence})
    assert (await rebuild(store, _orders(factor=10), skip=skip)).sequence == results[-1].sequence
    assert await reader.fetchval(_TOTALS) == 420


async def test_a_rebuild_whose_tables_are_gone_begins_anew(
    store: PostgresStore, reader: Any, database: Database
) -> None:
    await store.append_batch(_events(*([1] * 30)))
    await ProjectionRunner(store, _orders()).run(once=True)
    with pytest.raises(ProjectionFailed):
        await rebuild(store, _failing_after(15, 1))
    owner = await asyncpg.connect(database.url, timeout=10)
    await owner.execute("DROP SCHEMA projection_orders__new CASCADE")
    await owner.close(timeout=5)
    assert (await rebuild(store, _orders())).events == 30
    assert await reader.fetchval(_TOTALS) == 30


async def test_a_superseded_rebuild_puts_nothing_in_place(store: PostgresStore, reader: Any) -> None:
    """It is stopped before its last step; another one has begun anew in the same tables meanwhile."""
    await store.append_batch(_events(*([1] * 10)))
    await ProjectionRunner(store, _orders()).run(once=True)
    tables = store.tables()
    name, schema = "projection/orders", "projection_orders"
    zombie = await store.checkpoint(f"{name}/rebuild", lease=3_600).__aenter__()
    await tables.make(zombie, f"{schema}__new", _setup, (), sequence=0)
    async with (
        store.checkpoint(f"{name}/rebuild", take=True) as owner,
        store.checkpoint(name, take=True) as live,
    ):
        await tables.make(owner, f"{schema}__new", _setup, (), sequence=0)
        with pytest.raises(CheckpointLost):
            await tables.swap(live, zombie, schema, f"{schema}__new", 1)
    await zombie.__aexit__(None, None, None)
    await tables.close()
    assert await reader.fetchval(_TOTALS) == 10


async def test_what_hinders_the_tables_is_told_with_the_projection(
    store: PostgresStore, reader: Any, database: Database
) -> None:
    await store.append_batch(_events(1))

    async def wrong(connection: Any) -> None:
        await connection.execute("CREATE TABLE orders (amount whole)")

    async def broken(_connection: Any) -> None:
        raise KeyError("amount")

    for setup, said in ((wrong, 'UndefinedObjectError: type "whole" does not exist'), (broken, "KeyError")):
        made = projection("orders", setup=setup)(_insert)
        with pytest.raises(TablesNotMade, match=f"'orders'.*{said}") as caught:
            await ProjectionRunner(store, made).run(once=True)
        assert caught.value.__cause__ is not None
        with pytest.raises(TablesNotMade, match=said):
            await rebuild(store, made)
    unknown = projection("orders", setup=_setup, readers=("nobody_here",))(_insert)
    with pytest.raises(TablesNotMade, match="nobody_here"):
        await ProjectionRunner(store, unknown).run(once=True)
    async with PostgresStore(StoreSettings(dsn=database.writer_url)) as writer:
        with pytest.raises(TablesNotMade, match="permission denied for database"):
            await ProjectionRunner(writer, _orders()).run(once=True)
    assert await reader.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^projection_'") == 0
    await ProjectionRunner(store, _orders()).run(once=True)
    assert await reader.fetchval(_TOTALS) == 1


async def test_tables_are_made_once_the_server_is_back(store: PostgresStore, reader: Any) -> None:
    await store.append_batch(_events(1))
    ended: list[int] = []

    async def setup(connection: Any) -> None:
        if not ended:
            ended.append(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        await _setup(connection)

    await ProjectionRunner(store, projection("orders", setup=setup)(_insert)).run(once=True)
    assert ended
    assert await reader.fetchval(_TOTALS) == 1
