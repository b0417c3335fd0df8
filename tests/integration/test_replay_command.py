"""`penstock replay` as processes: beside a live worker, killed, begun again; what it says, how it ends."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.oracle import Oracle
from fixtures.processes import RunPenstock, StartPenstock
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for_async
from fixtures.workers import StartWorker
from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock.replay.status import read_status
from penstock_producer import Producer
from penstock_schemas import Event

pytestmark = pytest.mark.timeout(180)


class Store:
    """A topic of three partitions, a database, and what commands need to know of them."""

    def __init__(self, environment: dict[str, str], producer: Producer, connection: Any, topic: str) -> None:
        self.environment = environment
        self.producer = producer
        self.connection = connection
        self.topic = topic
        self.oracle = Oracle()

    def emit(self, count: int, entity: str, *, start: int = 0) -> None:
        self.oracle.emit(self.producer, _events(count, entity, start))

    async def reached(self) -> None:
        """Wait until the group's worker has passed everything that was emitted."""

        async def all_passed() -> bool:
            rows = await self.connection.fetch(
                "SELECT topic, partition, next_offset FROM penstock.offsets WHERE group_id = $1",
                self.environment["PENSTOCK_GROUP_ID"],
            )
            done = {(row["topic"], row["partition"]): row["next_offset"] or 0 for row in rows}
            return all(done.get(place, 0) >= end for place, end in self.oracle.records.items())

        await wait_for_async(all_passed, 60, "the worker to have passed everything")

    async def stored(self) -> int:
        return int(await self.connection.fetchval("SELECT count(*) FROM penstock.events"))

    async def forget(self) -> None:
        """As a restore that lost events and books, but not the positions."""
        await self.connection.execute("TRUNCATE penstock.events; DELETE FROM penstock.ingested")


def _events(count: int, entity: str, start: int) -> Iterator[Event]:
    for number in range(start, start + count):
        yield Event(
            event_type=f"test.{number % 7}",
            entity_id=f"{entity}-{number % 20}",
            idempotency_key=f"{entity}-{number:06d}",
            payload={"number": number, "text": "ünïcode"},
        )


@pytest.fixture
async def store(kafka: str, topic: TopicFactory, database: Database, registry: str) -> AsyncIterator[Store]:
    name = topic(3)
    connection = await asyncpg.connect(database.url, timeout=10)
    environment = {
        "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PENSTOCK_DATABASE_URL": database.url,
        "PENSTOCK_WORKER_DATABASE_URL": database.writer_url,
        "PENSTOCK_READER_DATABASE_URL": database.reader_url,
        "PENSTOCK_SCHEMA_REGISTRY_URL": registry,
        "PENSTOCK_TOPICS": name,
        "PENSTOCK_GROUP_ID": f"group-{name}",
        "PENSTOCK_LOG_FORMAT": "json",
    }
    with Producer(kafka, topic=name, schema_registry_url=registry) as producer:
        yield Store(environment, producer, connection, name)
    await connection.close()


async def test_killed_or_stopped_beside_a_live_worker_it_loses_and_doubles_nothing(
    store: Store, start_worker: StartWorker, start_penstock: StartPenstock, run_penstock: RunPenstock
) -> None:
    store.emit(6_000, "early")
    worker = start_worker(store.environment, "--batch-size", "500")
    await store.reached()
    await store.forget()
    for round_ in range(1, 4):
        replay = start_penstock(store.environment, "replay", "run", "--rate", "1000", "--take-over")
        store.emit(1_000, "late", start=1_000 * round_)
        enough = 1_000 * round_

        async def more(enough: int = enough) -> bool:
            total = await store.connection.fetchval("SELECT sum(stored) FROM penstock.replays")
            return (total or 0) >= enough

        await wait_for_async(more, 60, f"{enough} events replayed")
        if round_ < 3:
            replay.kill()
    assert replay.terminate() == ExitCode.FAILED
    assert "Run it again to go on." in replay.output()
    assert "Traceback" not in replay.output()
    done = run_penstock(store.environment, "replay", "run", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"
    await store.reached()
    assert worker.terminate() == ExitCode.OK
    await store.oracle.check(store.connection)
    assert await store.stored() == 9_000
    environment = store.environment
    runs = await read_status(environment["PENSTOCK_READER_DATABASE_URL"], run=None, limit=9, seconds=10)
    assert [item.state for item in runs[:2]] == ["finished", "stopped"]
    assert runs[0].done == runs[0].records
    assert sum(item.stored for item in runs) == 6_000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "-o", "@48h"], ExitCode.USAGE, "did you mean @-48h"),
        (["plan", "-o", "200:100"], ExitCode.USAGE, "character 5"),
        (["run", "-p", "7"], ExitCode.DATA, "has no partition 7: it has 3"),
        (["plan", "-t", "nowhere"], ExitCode.DATA, "no topic nowhere"),
        (["status"], ExitCode.OK, "No replay has run."),
        (["run", "--dry-run", "-o", "-100"], ExitCode.OK, "0 offsets to read"),
        (["run", "--compare"], ExitCode.USAGE, "goes with --into"),
        (["plan", "-o", "@1969-01-01:end"], ExitCode.OK, "0 offsets to read"),
        (["run", "--rate", "inf"], ExitCode.USAGE, "Invalid value for '--rate'"),
        (["status", str(1 << 63)], ExitCode.USAGE, "Invalid value for '[RUN]'"),
        (["status", "99"], ExitCode.FAILED, "There is no replay 99"),
        (["plan", "--kafka", "127.0.0.1:1"], ExitCode.UNAVAILABLE, "does not answer"),
        (["plan", "--database-url", "postgresql://127.0.0.1:1/x"], ExitCode.UNAVAILABLE, "does not answer"),
    ],
)
def test_what_cannot_be_done_is_said(
    kafka: str,
    topic: TopicFactory,
    database: Database,
    arguments: list[str],
    code: ExitCode,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": database.url,
        "TOPICS": topic(3),
        "TIMEOUT_SECONDS": "2",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"PENSTOCK_{name}", value)
    assert run(["replay", *arguments]) == code
    shown = " ".join("".join(capsys.readouterr()).split())
    assert said in shown
    assert "Traceback" not in shown


def test_a_login_or_database_that_is_not_there_is_said_with_the_server(
    kafka: str,
    topic: TopicFactory,
    database: Database,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", database.url)
    monkeypatch.setenv("PENSTOCK_TOPICS", topic(1))
    server = database.url.rpartition("@")[2].partition("/")[0]
    for into, advice in (
        (f"postgresql://nobody_known:{database.name}@{server}/{database.name}", "Correct user or password"),
        (f"{database.url.rpartition('/')[0]}/never_made", "Create the database"),
    ):
        assert run(["replay", "run", "--into", into]) == ExitCode.REFUSED
        said = " ".join(capsys.readouterr().err.split())
        assert f"{server}/" in said
        assert advice in said


async def test_a_run_with_nothing_to_do_is_a_run_for_programs_and_a_plan_for_people(
    store: Store, run_penstock: RunPenstock
) -> None:
    done = run_penstock(store.environment, "replay", "run", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    nothing = dict.fromkeys(("offsets", "stored", "duplicate", "conflict", "dead_lettered", "tombstone"), 0)
    assert json.loads(done.stdout) == {"run": None, "state": "finished", **nothing}
    planned = run_penstock(store.environment, "replay", "run", "--dry-run", "--json")
    assert json.loads(planned.stdout)["to_read"] == 0
    assert "0 offsets to read" in run_penstock(store.environment, "replay", "run").stdout
