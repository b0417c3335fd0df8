"""Private servers, the proxy and the embedded registry do what the tests of faults rely on."""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fixtures import leftovers
from fixtures.databases import Database
from fixtures.private_servers import PrivateKafka, PrivatePostgres
from fixtures.tcp_proxy import TcpProxy
from penstock.stack._lock import release
from penstock.stack._process import is_running, spawn, terminate

Proxies = Callable[[str, int], TcpProxy]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_private_postgresql_comes_back_with_its_data(
    private_postgres: PrivatePostgres, end: str
) -> None:
    connection = await asyncpg.connect(private_postgres.url, timeout=10)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    getattr(private_postgres, end)()
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await asyncpg.connect(private_postgres.url, timeout=5)
    private_postgres.start()
    again = await asyncpg.connect(private_postgres.url, timeout=10)
    assert await again.fetchval("SELECT number FROM kept") == 7
    await again.close(timeout=5)
    connection.terminate()


def test_a_private_kafka_comes_back_with_its_topics(private_kafka: PrivateKafka) -> None:
    admin = AdminClient({"bootstrap.servers": private_kafka.bootstrap_servers})
    admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])["kept"].result(20)
    private_kafka.kill()
    started = time.monotonic()
    private_kafka.start()
    assert (
        "kept"
        in AdminClient({"bootstrap.servers": private_kafka.bootstrap_servers}).list_topics(timeout=10).topics
    )
    assert time.monotonic() - started < 30


def test_the_registry_answers_on_the_tests_database(registry: str) -> None:
    with urllib.request.urlopen(f"{registry}/subjects", timeout=10) as answer:
        assert json.load(answer) == []


async def test_a_proxy_passes_cuts_and_heals(empty_database: Database, tcp_proxy: Proxies) -> None:
    proxy = _before(empty_database, tcp_proxy)
    connection = await asyncpg.connect(proxy.url(empty_database.url), timeout=10)
    assert await connection.fetchval("SELECT 1") == 1
    proxy.cut()
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1", timeout=5)
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await asyncpg.connect(proxy.url(empty_database.url), timeout=5)
    proxy.heal()
    again = await asyncpg.connect(proxy.url(empty_database.url), timeout=10)
    assert await again.fetchval("SELECT 1") == 1
    await again.close(timeout=5)


async def test_a_stalled_proxy_delivers_later_and_a_black_hole_never(
    empty_database: Database, tcp_proxy: Proxies
) -> None:
    proxy = _before(empty_database, tcp_proxy)
    connection = await asyncpg.connect(proxy.url(empty_database.url), timeout=10)
    proxy.stall()
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.3)
    proxy.heal()
    assert await connection.fetchval("SELECT 2", timeout=10) == 2
    proxy.blackhole()
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 3", timeout=0.3)
    connection.terminate()


def _before(database: Database, tcp_proxy: Proxies) -> TcpProxy:
    parts = urlsplit(database.url)
    return tcp_proxy(str(parts.hostname), int(parts.port or 5432))


def test_servers_of_a_killed_run_are_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "FOLDER", tmp_path / "private")
    home = tmp_path / "home"
    home.mkdir()
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    watched, orphan = (spawn(sleeping, log=tmp_path / "log", cwd=tmp_path) for _ in range(2))
    keeper = leftovers.Register(tmp_path / "kept")
    keeper.record(watched)
    killed = leftovers.Register(home)
    killed.record(orphan)
    release(killed._lock)  # what the kernel does when a process ends
    leftovers.sweep()
    assert is_running(watched)
    assert not is_running(orphan)
    assert not home.exists()
    terminate(watched, signals=(), grace_s=0)
    keeper.close()
    assert not list((tmp_path / "private").iterdir())
