"""Every public call of the PostgreSQL store returns in time when the network swallows or holds all bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.tcp_proxy import TcpProxy
from fixtures.waiting import wait_for_async
from penstock_schemas import Event
from penstock_store.breaker import CircuitState
from penstock_store.contract import QueryOptions
from penstock_store.postgresql.store import PostgresStore, StoreSettings
from penstock_store.read_errors import CircuitOpen, StoreUnavailable

_DEADLINE = 2.0
_LEFT = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"


def _event() -> Event:
    return Event(event_type="order.placed", entity_id="e1")


async def _first(store: PostgresStore) -> None:
    async with aclosing(store.stream()) as events:
        async for _ in events:
            return


async def _page_by_time(store: PostgresStore) -> None:
    await store.get_events(QueryOptions(order_by="time"))  # type: ignore[arg-type]


CALLS: dict[str, Callable[[PostgresStore], Awaitable[object]]] = {
    "initialize": lambda store: store.initialize(),
    "append": lambda store: store.append(_event()),
    "append_batch": lambda store: store.append_batch([_event(), _event()], expected_version=None),
    "get_events": _page_by_time,
    "get_event": lambda store: store.get_event(uuid4()),
    "get_events_by_correlation": lambda store: store.get_events_by_correlation("c"),
    "stream": _first,
    "safe_sequence": lambda store: store.safe_sequence(),
    "create_snapshot": lambda store: store.create_snapshot("k", 1, sequence=1),
    "get_snapshot": lambda store: store.get_snapshot("k"),
    "get_metrics": lambda store: store.get_metrics(),
}


@pytest.fixture
def proxy(database: Database, tcp_proxy: Callable[[str, int], TcpProxy]) -> TcpProxy:
    parts = urlsplit(database.writer_url)
    assert parts.hostname is not None
    assert parts.port is not None
    return tcp_proxy(parts.hostname, parts.port)


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database.url, timeout=10)
    yield connection
    await connection.close(timeout=5)


def _store(proxy: TcpProxy, database: Database, name: str, **changes: object) -> PostgresStore:
    quick = {
        "connect_timeout": 0.3,
        "acquire_timeout": 0.5,
        "command_timeout": 0.5,
        "call_timeout": _DEADLINE,
        "close_timeout": 0.5,
        "health_timeout": _DEADLINE,
        "application_name": name,
    }
    return PostgresStore(StoreSettings(dsn=proxy.url(database.writer_url), **quick | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["blackhole", "stall"])
async def test_every_call_returns_in_time_and_leaks_no_connection(
    fault: str, database: Database, proxy: TcpProxy, watcher: asyncpg.Connection[asyncpg.Record]
) -> None:
    store = _store(proxy, database, fault, breaker_failures=1_000)
    await store.append(_event())
    await asyncio.gather(*(store.get_events() for _ in range(4)))  # every connection is open
    getattr(proxy, fault)()

    async def late(name: str) -> str | None:
        try:
            async with asyncio.timeout(_DEADLINE + 1):
                await CALLS[name](store)
        except StoreUnavailable:
            return None
        except TimeoutError:
            return f"{name} took too long"
        return f"{name} answered"

    for _ in range(2):  # on connections that were open, and on new ones
        assert [said for said in await asyncio.gather(*map(late, CALLS)) if said] == []
    async with asyncio.timeout(_DEADLINE + 1):
        health = await store.health_check()
    assert (health.live, health.ready) == (True, False)
    async with asyncio.timeout(_DEADLINE + 1):
        await store.close()
    proxy.heal()
    proxy.cut()

    async def none_left() -> bool:
        return await watcher.fetchval(_LEFT, fault) == 0

    await wait_for_async(none_left, what="the server to see every connection ended")


async def test_the_circuit_opens_says_so_and_closes_again(database: Database, proxy: TcpProxy) -> None:
    async with _store(proxy, database, "circuit", breaker_failures=3, breaker_pause=0.2) as store:
        assert (await store.get_metrics()).circuit is CircuitState.CLOSED
        proxy.cut()
        refused = None
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as caught:
                await store.append(_event())
            refused = caught.value
        assert isinstance(refused, CircuitOpen)
        health = await store.health_check()
        assert not health.ready
        assert "is away; the call was not sent. It is asked again in" in health.detail
        seen = proxy.connections
        with pytest.raises(CircuitOpen):  # nothing is sent meanwhile
            await asyncio.gather(*(store.get_events() for _ in range(50)))
        assert proxy.connections <= seen + 1
        proxy.heal()

        async def back() -> bool:
            return (await store.health_check()).ready

        await wait_for_async(back, what="the circuit to close")
        metrics = await store.get_metrics()
        assert metrics.circuit is CircuitState.CLOSED
        assert metrics.circuit_opened >= 1
        assert (await store.append(_event())).stored


async def test_a_slow_statement_does_not_open_the_circuit(database: Database, proxy: TcpProxy) -> None:
    async with _store(proxy, database, "slow", breaker_failures=1, pool_size=2) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="did not answer a read"):
                await store._pool.fetch("SELECT pg_sleep(600)")
        assert (await store.health_check()).ready
