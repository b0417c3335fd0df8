"""The pipeline on real processes while things go wrong: nothing lost, nothing twice, in order.

Short forms of the fault runs; each case ends with the oracle's comparison of every column, the order per
entity and the books.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient

from fixtures.oracle import Oracle
from fixtures.private_servers import PrivatePostgres
from fixtures.waiting import wait_for, wait_for_async
from fixtures.workers import StartWorker
from penstock_producer import Producer
from penstock_schemas import Event

pytestmark = pytest.mark.timeout(300)

SMALL_BATCHES = ("--batch-size", "500")
SESSION_TIMEOUT = 6.0  # seconds; the least a broker grants by default


def history(count: int, *, seed: int, entities: int = 40, start: int = 0) -> Iterator[Event]:
    """Deterministic events with time-ordered ids, interleaved over entities."""
    chance = random.Random(seed)
    for number in range(start, start + count):
        yield Event(
            event_type=f"test.{number % 7}",
            entity_id=f"entity-{chance.randrange(entities)}",
            idempotency_key=f"key-{seed}-{number:08d}",
            actor_id=f"actor-{number % 5}" if number % 3 else None,
            payload={"number": number, "text": "ünïcode" if number % 11 == 0 else "plain"},
            metadata={"tags": ["even" if number % 2 == 0 else "odd"]},
        )


class Pipeline:
    """What a case needs: a topic, a database, a producer into the topic and an oracle."""

    def __init__(
        self, environment: dict[str, str], producer: Producer, connection: asyncpg.Connection, topic: str
    ):
        self.environment, self.producer, self.connection, self.topic = (
            environment,
            producer,
            connection,
            topic,
        )
        self.oracle = Oracle()

    async def stored(self) -> int:
        return int(await self.connection.fetchval("SELECT count(*) FROM penstock.events"))

    async def progress(self, rows: int, deadline: float = 60) -> None:
        async def enough() -> bool:
            return await self.stored() >= rows

        await wait_for_async(enough, deadline, f"{rows} rows stored")

    async def settle(self, deadline: float = 120) -> None:
        async def everything() -> bool:
            return await self.oracle.stored_everything(self.connection)

        await wait_for_async(everything, deadline, "every acknowledged record accounted for")
        await self.oracle.check(self.connection)


@pytest.fixture
async def pipeline(kafka, topic, database, registry) -> AsyncIterator[Pipeline]:
    name = topic(partitions=6)
    connection = await asyncpg.connect(database.url)
    with Producer(kafka, topic=name, schema_registry_url=registry) as producer:
        yield Pipeline(
            {
                "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka,
                "PENSTOCK_DATABASE_URL": database.url,
                "PENSTOCK_WORKER_DATABASE_URL": database.writer_url,
                "PENSTOCK_SCHEMA_REGISTRY_URL": registry,
                "PENSTOCK_TOPICS": name,
                "PENSTOCK_GROUP_ID": f"group-{name}",
                "PENSTOCK_KAFKA_CONFIG": '{"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}',
                "PENSTOCK_LOG_FORMAT": "json",
            },
            producer,
            connection,
            name,
        )
    await connection.close()


async def slow_copy(connection: asyncpg.Connection, microseconds: int) -> None:
    """Make each stored row cost time, so that a COPY can be met in its middle."""
    await connection.execute(
        f"""
        CREATE FUNCTION penstock.test_slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep({microseconds / 1e6}); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON penstock.events
        FOR EACH ROW EXECUTE FUNCTION penstock.test_slow();
        """
    )


async def test_a_worker_killed_in_mid_load_loses_and_doubles_nothing(
    pipeline: Pipeline, start_worker: StartWorker
) -> None:
    await slow_copy(pipeline.connection, 50)
    pipeline.oracle.emit(pipeline.producer, history(30_000, seed=1))
    worker = start_worker(pipeline.environment, *SMALL_BATCHES)
    for kills in range(1, 5):
        await pipeline.progress(5_000 * kills)
        worker.kill()
        worker = start_worker(pipeline.environment, *SMALL_BATCHES, ready=False)
    await pipeline.settle()
    assert worker.terminate() == 0


async def test_workers_join_and_leave_during_the_load(pipeline: Pipeline, start_worker: StartWorker) -> None:
    await slow_copy(pipeline.connection, 50)
    first = start_worker(pipeline.environment, *SMALL_BATCHES)
    pipeline.oracle.emit(pipeline.producer, history(20_000, seed=2))
    await pipeline.progress(2_000)
    second = start_worker(pipeline.environment, *SMALL_BATCHES, ready=False)
    await pipeline.progress(8_000)
    third = start_worker(pipeline.environment, *SMALL_BATCHES, ready=False)
    pipeline.oracle.emit(pipeline.producer, history(20_000, seed=2, start=20_000))
    await pipeline.progress(16_000)
    assert first.terminate() == 0
    await pipeline.settle()
    assert (second.terminate(), third.terminate()) == (0, 0)


async def test_a_worker_stopped_in_mid_copy_commits_nothing_after_takeover(
    pipeline: Pipeline, start_worker: StartWorker
) -> None:
    await slow_copy(pipeline.connection, 500)
    pipeline.oracle.emit(pipeline.producer, history(12_000, seed=3))
    zombie = start_worker(pipeline.environment, "--batch-size", "3000")
    await pipeline.progress(1)

    async def in_copy() -> bool:
        return bool(
            await pipeline.connection.fetchval(
                "SELECT exists(SELECT FROM pg_stat_progress_copy WHERE tuples_processed > 0"
                " AND datname = current_database())"
            )
        )

    await wait_for_async(in_copy, 30, "a COPY in progress")
    zombie.signal(signal.SIGSTOP)
    stored_before = await pipeline.stored()
    heir = start_worker(pipeline.environment, "--batch-size", "3000", ready=False)

    async def taken_over() -> bool:
        return await pipeline.stored() > stored_before

    # The heir's own start is in it: interpreter, connections, joining the group.
    await wait_for_async(taken_over, SESSION_TIMEOUT + 5 + 5, "the heir's first commit")
    zombie.signal(signal.SIGCONT)
    await pipeline.settle()
    assert heir.terminate() == 0
    zombie.terminate()
    await pipeline.oracle.check(pipeline.connection)


async def test_keys_repeated_across_a_roll_are_stored_once(
    pipeline: Pipeline, start_worker: StartWorker
) -> None:
    await pipeline.connection.execute("UPDATE penstock.settings SET partition_interval = '2 seconds'")
    worker = start_worker(pipeline.environment, *SMALL_BATCHES)

    async def over() -> bool:
        return bool(
            await pipeline.connection.fetchval(
                "SELECT upper < clock_timestamp() FROM penstock.partitions WHERE state = 'current'"
            )
        )

    repeated = list(history(500, seed=4))
    for round_ in range(1, 5):
        fresh = history(500, seed=4, start=500 * round_)
        pipeline.oracle.emit(pipeline.producer, [*repeated, *fresh])
        await pipeline.settle()
        await wait_for_async(over, 30, "the end of the current partition's time")
    leaves = await pipeline.connection.fetchval("SELECT count(DISTINCT tableoid) FROM penstock.events")
    assert leaves >= 3  # a batch that finds its partition over goes into it still, and the next one rolls
    assert worker.terminate() == 0


async def test_postgresql_away_for_thirty_seconds_during_the_load(
    pipeline: Pipeline, private_postgres: PrivatePostgres, kafka: str, start_worker: StartWorker
) -> None:
    environment = {
        **pipeline.environment,
        "PENSTOCK_DATABASE_URL": private_postgres.url,
        "PENSTOCK_WORKER_DATABASE_URL": private_postgres.writer_url,
    }
    await pipeline.connection.close()
    pipeline.connection = await asyncpg.connect(private_postgres.url)
    worker = start_worker(environment, "--batch-size", "2000")
    group = environment["PENSTOCK_GROUP_ID"]
    before = members(kafka, group)
    pipeline.oracle.emit(pipeline.producer, history(20_000, seed=5))
    await pipeline.progress(4_000)
    await pipeline.connection.close()
    private_postgres.stop()
    stopped_at, memory = time.monotonic(), worker.resident_mib()
    for part in range(1, 7):
        pipeline.oracle.emit(pipeline.producer, history(20_000, seed=5, start=20_000 * part))
        # The outage's length is the case itself: longer than any timeout of the group.
        wait_for(lambda end=stopped_at + 5 * part: time.monotonic() > end, 10, "the outage to last")
        assert worker.running, worker.tail()
    assert members(kafka, group) == before, "the worker lost its membership"
    assert worker.resident_mib() < memory + 100, "the worker's memory grew with what it could not write"
    private_postgres.start()
    pipeline.connection = await asyncpg.connect(private_postgres.url)
    await pipeline.settle()
    assert members(kafka, group) == before, "the worker lost its membership"
    assert worker.terminate() == 0


def members(kafka: str, group: str) -> list[str]:
    """The ids of a group's members; a member that was evicted comes back with another id."""
    admin = AdminClient({"bootstrap.servers": kafka})
    described = admin.describe_consumer_groups([group], request_timeout=10)[group].result(10)
    return sorted(member.member_id for member in described.members)
