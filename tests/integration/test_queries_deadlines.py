"""No read waits for ever, whatever the server or the network does; and every failure is one of the store's
errors.
"""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from urllib.parse import urlsplit

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History, random_event
from fixtures.tcp_proxy import TcpProxy
from fixtures.waiting import wait_for_async
from penstock_store.contract import EventReader, QueryOptions
from penstock_store.errors import InvalidDsn, StoreError
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings
from penstock_store.read_errors import InvalidQuery, StoreRefused, StoreUnavailable

_HUNG = 30.0  # seconds: far above every deadline set here, far below what a hang would take
_BUSY = """SELECT count(*) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'penstock-reader' AND state = 'active'"""


@pytest.fixture
async def history(database: Database) -> AsyncIterator[History]:
    connection = await asyncpg.connect(database.url, timeout=10)
    made = History(connection)
    await made.start()
    await made.append([random_event(random.Random(number)) for number in range(20)])
    yield made
    await connection.close(timeout=5)


def _settings(url: str, **changes: object) -> ReaderSettings:
    quick = {"connect_timeout": 1.0, "acquire_timeout": 1.0, "command_timeout": 0.5, "close_timeout": 1.0}
    return ReaderSettings(dsn=url, **{**quick, **changes})  # type: ignore[arg-type]


def _proxy(make: Callable[[str, int], TcpProxy], database: Database) -> TcpProxy:
    parts = urlsplit(database.reader_url)
    assert parts.hostname is not None
    assert parts.port is not None
    return make(parts.hostname, parts.port)


async def test_it_is_an_event_reader(database: Database) -> None:
    assert isinstance(PostgresEventStore(database.reader_url), EventReader)


async def test_a_statement_that_takes_too_long_is_ended_on_the_server_too(
    database: Database, history: History
) -> None:
    async with PostgresEventStore(_settings(database.reader_url, attempts=1)) as store:
        with pytest.raises(StoreUnavailable, match=r"did not answer a read within 0\.5 s"):
            await store._pool.fetch("SELECT pg_sleep(600)")
        await wait_for_async(
            lambda: _is_zero(history.connection), what="the server to give the ended statement up"
        )
        assert len((await store.get_events()).events) == 20


async def _is_zero(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return await connection.fetchval(_BUSY) == 0


async def test_a_read_waits_for_a_connection_no_longer_than_told(
    database: Database, history: History
) -> None:
    async with PostgresEventStore(
        _settings(database.reader_url, pool_size=1, acquire_timeout=0.3, command_timeout=_HUNG)
    ) as store:
        long = asyncio.create_task(store._pool.fetch("SELECT pg_sleep(600)"))
        await wait_for_async(lambda: history.connection.fetchval(_BUSY), what="the long read to run")
        with pytest.raises(StoreUnavailable, match="all 1 connections that read are busy"):
            await store.get_events()
        long.cancel()
        done, _ = await asyncio.wait({long}, timeout=5)
        assert done, "a cancelled read hangs"
        assert len((await store.get_events()).events) == 20


async def test_a_network_that_swallows_everything_is_no_hang(
    database: Database, history: History, tcp_proxy: Callable[[str, int], TcpProxy]
) -> None:
    proxy = _proxy(tcp_proxy, database)
    store = PostgresEventStore(_settings(proxy.url(database.reader_url), attempts=1))
    assert len((await store.get_events()).events) == 20
    proxy.blackhole()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.get_events()
    with pytest.raises(StoreUnavailable):
        await store.get_events()
    await store.close()
    assert time.monotonic() - started < _HUNG


async def test_a_read_is_repeated_when_its_connection_is_lost(
    database: Database, history: History, tcp_proxy: Callable[[str, int], TcpProxy]
) -> None:
    proxy = _proxy(tcp_proxy, database)
    async with PostgresEventStore(
        _settings(proxy.url(database.reader_url), stream_chunk=2, attempts=5)
    ) as store:
        seen = []
        async with aclosing(store.stream()) as events:
            async for event in events:
                seen.append(event)
                if len(seen) in (5, 11):
                    proxy.cut()
                    proxy.heal()
        assert seen == history.events


async def test_a_stream_left_early_gives_its_connection_back(database: Database, history: History) -> None:
    async with PostgresEventStore(_settings(database.reader_url, pool_size=1, stream_chunk=2)) as store:
        for _ in range(5):
            async with aclosing(store.stream()) as events:
                assert (await anext(events)).sequence == 1
        assert len((await store.get_events()).events) == 20


async def test_a_stream_holds_no_more_of_a_long_history_than_of_a_short_one(
    database: Database, history: History
) -> None:
    rng = random.Random(3_000)
    await history.append([random_event(rng) for _ in range(12_000)])

    async def peak(limit: int) -> int:
        async with PostgresEventStore(_settings(database.reader_url, stream_chunk=200)) as store:
            await store.initialize()
            tracemalloc.start()
            assert sum([1 async for _ in store.stream(QueryOptions(limit=limit))]) == limit
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most

    await peak(500)  # caches fill
    assert await peak(12_000) < 2 * await peak(1_000)


async def test_a_closed_store_says_so(database: Database, history: History) -> None:
    store = PostgresEventStore(database.reader_url)
    await store.initialize()
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        await store.get_events()


async def test_the_reader_can_read_and_nothing_else(database: Database, history: History) -> None:
    async with PostgresEventStore(database.reader_url) as store:
        for statement in ("DELETE FROM penstock.events", "SELECT penstock.drop_partition('x')"):
            with pytest.raises(StoreError):
                await store._pool.fetch(statement)
        connection = await asyncpg.connect(database.reader_url, timeout=10)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("INSERT INTO penstock.events DEFAULT VALUES")
        await connection.close(timeout=5)


async def test_a_wrong_login_or_database_is_refused_and_the_password_kept_quiet(database: Database) -> None:
    login, _, rest = database.reader_url.rpartition("@")
    wrong = f"{login}x@{rest}"
    with pytest.raises(StoreRefused, match="does not let the login in") as refused:
        await PostgresEventStore(wrong).initialize()
    password = login.rpartition(":")[2]
    assert password not in str(refused.value)
    assert password not in repr(ReaderSettings(dsn=wrong))
    with pytest.raises(StoreRefused, match="does not exist"):
        await PostgresEventStore(database.reader_url + "_none").initialize()


async def test_wrong_settings_are_refused_when_made(database: Database) -> None:
    for wrong in (
        {"pool_size": 0},
        {"command_timeout": 0},
        {"stream_chunk": 0},
        {"poll_interval": float("nan")},
    ):
        with pytest.raises(InvalidQuery, match="must be"):
            ReaderSettings(dsn=database.reader_url, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidDsn):
        ReaderSettings(dsn="mysql://ann:secret@host/db")
    assert ReaderSettings(
        dsn=database.reader_url.replace("postgresql:", "postgresql+asyncpg:")
    ).dsn.startswith("postgresql://")
