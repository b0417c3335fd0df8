"""The registry as users run it: processes, several of them on one database, and a database that is away."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from fixtures.databases import Database
from fixtures.waiting import wait_for
from penstock.stack._sql import execute

N = 24


@dataclass
class RegistryProcess:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


StartRegistry = Callable[..., RegistryProcess]


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """`start_registry(database_url, **environment)` runs `penstock registry` on a free port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(database_url: str, **environment: str) -> RegistryProcess:
        log = tmp_path / f"registry-{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "registry", "--port", "0"],
                env={**os.environ, "PENSTOCK_REGISTRY_DATABASE_URL": database_url, **environment},
                stdout=output,
                stderr=output,
                cwd=tmp_path,
            )
        started.append(process)

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            return found and found[0]

        return RegistryProcess(process, str(wait_for(address, 30, "the registry's address")), log)

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def _schema(name: str = "Order", *fields: str) -> str:
    own = [{"name": field, "type": "int", "default": 0} for field in fields]
    return json.dumps({"type": "record", "name": name, "fields": own})


def _at_once(calls: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
        return [future.result(60) for future in [threads.submit(call) for call in calls]]


def _register(client: httpx.Client, url: str, subject: str, schema: str) -> Callable[[], httpx.Response]:
    return lambda: client.post(f"{url}/subjects/{subject}/versions", json={"schema": schema}, timeout=60)


def test_one_new_schema_registered_by_many_at_once_is_one_version(
    database: Database, start_registry: StartRegistry
) -> None:
    urls = [start_registry(database.registry_url).url for _ in range(2)]
    with httpx.Client() as client:
        for attempt in range(5):
            subject = f"s{attempt}"
            answers = _at_once([_register(client, urls[n % 2], subject, _schema(subject)) for n in range(N)])
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.json()["id"] for answer in answers}) == 1
            assert client.get(f"{urls[0]}/subjects/{subject}/versions").json() == [1]


def test_one_new_schema_under_many_subjects_at_once_has_one_id(
    database: Database, start_registry: StartRegistry
) -> None:
    urls = [start_registry(database.registry_url).url for _ in range(2)]
    with httpx.Client() as client:
        answers = _at_once([_register(client, urls[n % 2], f"s{n}", _schema()) for n in range(N)])
        assert {answer.status_code for answer in answers} == {200}
        (schema_id,) = {answer.json()["id"] for answer in answers}
        uses = client.get(f"{urls[1]}/schemas/ids/{schema_id}/versions").json()
        assert sorted((use["subject"], use["version"]) for use in uses) == sorted(
            (f"s{n}", 1) for n in range(N)
        )


def test_different_schemas_at_once_are_numbered_without_gaps_and_each_is_judged(
    database: Database, start_registry: StartRegistry
) -> None:
    """Each of them adds `x` with a type of its own: at FULL only the first to come can stay. Whatever the
    database's isolation: who waited for a lock looks at what its holder registered.
    """
    level = "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'"
    execute(database.admin_url, [level.format(database.name)])
    urls = [start_registry(database.registry_url).url for _ in range(2)]
    with httpx.Client() as client:
        compatible = [_schema("Order", *(f"f{k}" for k in range(n))) for n in range(N)]
        answers = _at_once([_register(client, urls[n % 2], "s", text) for n, text in enumerate(compatible)])
        assert {answer.status_code for answer in answers} == {200}
        assert client.get(f"{urls[0]}/subjects/s/versions").json() == list(range(1, N + 1))
        assert len({answer.json()["id"] for answer in answers}) == N

        kinds = (
            "boolean",
            "bytes",
            "int",
            {"type": "array", "items": "int"},
            {"type": "map", "values": "int"},
        )
        rivals = [
            json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}]})
            for kind in kinds
        ]
        answers = _at_once([_register(client, urls[n % 2], "rivals", text) for n, text in enumerate(rivals)])
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
        assert client.get(f"{urls[0]}/subjects/rivals/versions").json() == [1]


def test_what_one_process_registered_the_other_finds_and_a_restart_keeps(
    database: Database, start_registry: StartRegistry
) -> None:
    one, other = start_registry(database.registry_url), start_registry(database.registry_url)
    schema_id = httpx.post(f"{one.url}/subjects/s/versions", json={"schema": _schema()}).json()["id"]
    assert httpx.get(f"{other.url}/schemas/ids/{schema_id}").json() == {"schema": _schema()}
    assert (one.stop(), other.stop()) == (0, 0)
    again = start_registry(database.registry_url)
    assert httpx.get(f"{again.url}/subjects/s/versions/latest").json()["id"] == schema_id


def test_sigterm_lets_a_running_request_finish(database: Database, start_registry: StartRegistry) -> None:
    registry = start_registry(database.registry_url)
    body = json.dumps({"schema": _schema()}).encode()
    head = f"POST /subjects/s/versions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    url = httpx.URL(registry.url)
    with socket.create_connection((url.host, url.port or 0), timeout=20) as connection:
        connection.sendall(head + body[:-1])
        wait_for(lambda: _requests_under_way(registry), 10, "the request to be taken")
        registry.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Shutting down" in registry.log.read_text(), 10, "the shutdown to begin")
        connection.sendall(body[-1:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert registry.process.wait(20) == 0


def _requests_under_way(registry: RegistryProcess) -> bool:
    """An answer on a later connection means that the earlier one's bytes were read."""
    return httpx.get(f"{registry.url}/livez").status_code == 200


def test_a_port_that_is_taken_is_said_in_one_sentence(database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = subprocess.run(
            [sys.executable, "-m", "penstock", "registry", "--port", str(taken.getsockname()[1])],
            env={**os.environ, "PENSTOCK_REGISTRY_DATABASE_URL": database.registry_url},
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
        )
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_starts_without_its_database_and_is_not_ready(start_registry: StartRegistry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    registry = start_registry(f"postgresql://someone:hidden@127.0.0.1:{port}/none")
    assert httpx.get(f"{registry.url}/livez").status_code == 200
    assert httpx.get(f"{registry.url}/readyz").status_code == 503
    assert httpx.get(f"{registry.url}/metrics").status_code == 200
    answer = httpx.post(f"{registry.url}/subjects/s/versions", json={"schema": _schema()})
    assert (answer.status_code, answer.json()["error_code"]) == (503, 50001)
    assert "hidden" not in answer.text + registry.log.read_text()
    assert registry.stop() == 0


def test_a_database_without_tables_or_privileges_is_named_as_such(
    empty_database: Database, database: Database, start_registry: StartRegistry
) -> None:
    unmigrated = start_registry(empty_database.registry_url)
    answer = httpx.get(f"{unmigrated.url}/subjects")
    assert answer.status_code == 503
    assert "penstock migrate" in answer.json()["message"]
    other_login = start_registry(database.retention_url)
    answer = httpx.get(f"{other_login.url}/subjects")
    assert answer.status_code == 503
    assert "privileges" in answer.json()["message"]


def test_credentials_come_from_the_settings(database: Database, start_registry: StartRegistry) -> None:
    login = {"PENSTOCK_REGISTRY_USER": "someone", "PENSTOCK_REGISTRY_PASSWORD": "h1dden"}
    registry = start_registry(database.registry_url, **login)
    assert httpx.get(f"{registry.url}/subjects").status_code == 401
    assert httpx.get(f"{registry.url}/subjects", auth=("someone", "h1dden")).json() == []
    assert "h1dden" not in registry.log.read_text()


async def test_a_database_that_hangs_costs_a_deadline_and_no_more(
    database: Database, start_registry: StartRegistry
) -> None:
    registry = start_registry(database.registry_url, PENSTOCK_TIMEOUT_SECONDS="1")
    connection = await asyncpg.connect(database.url, timeout=10)
    try:
        async with httpx.AsyncClient(base_url=registry.url, timeout=20) as client:
            async with connection.transaction():
                await connection.execute("LOCK TABLE penstock.registry_schemas IN ACCESS EXCLUSIVE MODE")
                started = time.monotonic()
                answer = await client.post("/subjects/s/versions", json={"schema": _schema()})
                assert answer.status_code == 503
                assert time.monotonic() - started < 5
                assert (await client.get("/livez")).status_code == 200
            assert (await client.post("/subjects/s/versions", json={"schema": _schema()})).status_code == 200
    finally:
        await connection.close(timeout=10)


def test_a_body_that_never_ends_is_given_up(database: Database, start_registry: StartRegistry) -> None:
    registry = start_registry(database.registry_url, PENSTOCK_TIMEOUT_SECONDS="1")
    url = httpx.URL(registry.url)
    with socket.create_connection((url.host, url.port or 0), timeout=20) as connection:
        connection.sendall(
            b"POST /subjects/s/versions HTTP/1.1\r\nHost: registry\r\nContent-Length: 100\r\n\r\n{"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
