"""`penstock doctor` against real servers: each thing that can be wrong is found and said with what to do."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fixtures.databases import Database
from fixtures.topics import TopicFactory
from penstock.doctor import Finding, Status, examine, summary, worst
from penstock.doctor.database import (
    Privilege,
    examine_database,
    judge_clock,
    judge_partitions,
    judge_privileges,
)
from penstock.doctor.registry import examine_registry
from penstock.doctor.report import failed, fine, warned
from penstock.kafka_view import KafkaView
from penstock.settings import DatabaseRole, Settings

SECRET = "s3cr3t-passphrase"


def _settings(kafka: str, database: Database, topic: str, **more: object) -> Settings:
    values = {
        "kafka_bootstrap_servers": kafka,
        "database_url": database.url,
        "worker_database_url": database.writer_url,
        "reader_database_url": database.reader_url,
        "retention_database_url": database.retention_url,
        "registry_database_url": database.registry_url,
        "schema_registry_url": "http://127.0.0.1:1",
        "topics": (topic,),
        "timeout_seconds": 10,
        **more,
    }
    return Settings(**values)  # type: ignore[arg-type]


def _find(findings: Sequence[Finding], component: str, check: str) -> Finding:
    found = [f for f in findings if f.component == component and f.check == check]
    assert len(found) == 1, [(f.component, f.check) for f in findings]
    return found[0]


GOOD_TOPIC = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(1024 * 1024)}


@pytest.fixture
def dead_letters(kafka: str) -> Callable[[str, int], None]:
    """Make the dead-letter topic of a topic; the topic's own fixture deletes it."""

    def make(name: str, size: int) -> None:
        admin = AdminClient({"bootstrap.servers": kafka})
        new = NewTopic(f"{name}.dlq", 1, 1, config={**GOOD_TOPIC, "max.message.bytes": str(size)})
        admin.create_topics([new], operation_timeout=30)[new.topic].result(30)

    return make


async def test_a_good_installation_passes(
    kafka: str, database: Database, topic: TopicFactory, dead_letters: Callable[[str, int], None]
) -> None:
    name = topic(2, config=GOOD_TOPIC)
    dead_letters(name, (1024 + 64) * 1024)
    findings = await examine(_settings(kafka, database, name))
    said = {(f.component, f.check): f.status for f in findings}
    assert said["Kafka", "reachable"] is Status.OK
    assert said["Kafka", f"topic {name}"] is Status.OK
    assert said["Kafka", f"topic {name}.dlq"] is Status.OK
    assert said["PostgreSQL", "migrations"] is Status.OK
    assert said["PostgreSQL", "clock"] is Status.OK
    for role in ("worker", "reader", "retention", "registry"):
        assert said["PostgreSQL", f"{role} login"] is Status.OK
    assert said["worker", f"lag of {name}"] is Status.OK
    assert said["worker", f"owners of {name}"] is Status.WARN  # nobody started one
    assert [f.component for f in findings if f.status is Status.FAIL] == ["schema registry"]


async def test_a_topic_that_endangers_events_is_named(
    kafka: str, database: Database, topic: TopicFactory, dead_letters: Callable[[str, int], None]
) -> None:
    name = topic(1, config={**GOOD_TOPIC, "message.timestamp.type": "CreateTime"})
    dead_letters(name, 1024 * 1024)
    findings = await examine(_settings(kafka, database, name))
    time = _find(findings, "Kafka", f"topic {name}: time")
    assert time.status is Status.WARN
    assert "message.timestamp.type=LogAppendTime" in time.advice
    letters = _find(findings, "Kafka", f"topic {name}.dlq")
    assert letters.status is Status.FAIL
    assert f"max.message.bytes={(1024 + 64) * 1024}" in letters.advice


async def test_a_missing_topic_is_no_failure(kafka: str, database: Database) -> None:
    findings = await examine(_settings(kafka, database, "no-such-topic"))
    assert _find(findings, "Kafka", "topic no-such-topic").status is Status.WARN


async def test_records_that_nobody_takes_are_a_failure(
    kafka: str, database: Database, topic: TopicFactory
) -> None:
    from confluent_kafka import Producer

    name = topic(1, config=GOOD_TOPIC)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(name, b"x")
    assert producer.flush(30) == 0
    lag = _find(await examine(_settings(kafka, database, name)), "worker", f"lag of {name}")
    assert lag.status is Status.FAIL
    assert "1 offset not" in lag.detail
    assert "penstock worker" in lag.advice


async def test_a_transaction_s_marker_is_no_record_that_nobody_takes(
    kafka: str, database: Database, topic: TopicFactory
) -> None:
    from confluent_kafka import Producer

    name = topic(1, config=GOOD_TOPIC)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"x")
    producer.commit_transaction(30)
    settings = _settings(kafka, database, name)
    await _remember(database, kafka, name, None, 1)  # the record's end; a worker never comes to the marker
    lag = _find(await examine(settings), "worker", f"lag of {name}")
    assert (lag.status, lag.detail) == (Status.OK, "everything in Kafka is accounted for in PostgreSQL")


async def _remember(database: Database, kafka: str, name: str, topic_id: str | None, position: int) -> None:
    """What a worker's transaction would have left behind."""
    view = KafkaView({"bootstrap.servers": kafka}, timeout=10)
    found = view.topic(name)
    assert found is not None
    owner = await asyncpg.connect(database.url)
    await owner.execute(
        "INSERT INTO penstock.offsets (group_id, cluster_id, topic, partition, topic_id, next_offset, epoch)"
        " VALUES ('penstock', $1, $2, 0, $3, $4, 1)",
        view.cluster().cluster_id,
        name,
        topic_id or found.topic_id,
        position,
    )
    await owner.close()


async def test_records_that_kafka_lost_are_a_failure_with_the_way_out(
    kafka: str, database: Database, topic: TopicFactory
) -> None:
    from confluent_kafka import Producer, TopicPartition

    name = topic(1, config=GOOD_TOPIC)
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(name, b"x")
    assert producer.flush(30) == 0
    gone = TopicPartition(name, 0, 3)
    admin = AdminClient({"bootstrap.servers": kafka})  # its answers end with it
    admin.delete_records([gone])[gone].result(30)
    await _remember(database, kafka, name, None, 1)
    loss = _find(await examine(_settings(kafka, database, name)), "worker", f"losses of {name}:0")
    assert loss.status is Status.FAIL
    assert "offsets 1 to 2" in loss.detail
    assert f"--accept-loss {name}:0" in loss.advice


async def test_a_log_that_ends_before_the_position_is_a_failure(
    kafka: str, database: Database, topic: TopicFactory
) -> None:
    name = topic(1, config=GOOD_TOPIC)
    await _remember(database, kafka, name, None, 9)
    loss = _find(await examine(_settings(kafka, database, name)), "worker", f"losses of {name}:0")
    assert loss.status is Status.FAIL
    assert "truncated" in loss.detail
    assert "accept" not in loss.advice  # nobody can: its offsets come again for other records


async def test_a_topic_that_was_made_again_is_a_failure(
    kafka: str, database: Database, topic: TopicFactory
) -> None:
    name = topic(1, config=GOOD_TOPIC)
    await _remember(database, kafka, name, "another-id", 0)
    found = _find(await examine(_settings(kafka, database, name)), "worker", f"identity of {name}")
    assert found.status is Status.FAIL


async def test_missing_migrations_are_named(kafka: str, empty_database: Database) -> None:
    findings = await examine(_settings(kafka, empty_database, "t"))
    migrations = _find(findings, "PostgreSQL", "migrations")
    assert migrations.status is Status.FAIL
    assert migrations.advice == "penstock migrate"
    assert not [f for f in findings if f.component == "worker"]


@pytest.mark.parametrize("right", ["UPDATE", "DELETE", "TRUNCATE"])
async def test_a_worker_that_could_change_events_is_a_failure(
    kafka: str, database: Database, right: str
) -> None:
    owner = await asyncpg.connect(database.url)
    await owner.execute(f"GRANT {right} ON penstock.events TO penstock_writer")
    await owner.close()
    login = _find(await examine(_settings(kafka, database, "t")), "PostgreSQL", "worker login")
    assert login.status is Status.FAIL
    assert f"{right} on penstock.events" in login.detail


async def test_a_login_that_lacks_a_privilege_is_a_failure(kafka: str, database: Database) -> None:
    owner = await asyncpg.connect(database.url)
    await owner.execute("REVOKE INSERT ON penstock.events FROM penstock_writer")
    await owner.close()
    login = _find(await examine(_settings(kafka, database, "t")), "PostgreSQL", "worker login")
    assert login.status is Status.FAIL
    assert "lacks INSERT on penstock.events" in login.detail
    assert "GRANT penstock_writer" in login.advice


async def test_a_superuser_and_the_owner_as_worker_are_not_accepted_in_silence(
    kafka: str, database: Database
) -> None:
    findings = await examine(
        _settings(kafka, database, "t", worker_database_url=database.admin_url, reader_database_url=None)
    )
    superuser = _find(findings, "PostgreSQL", "worker login")
    assert superuser.status is Status.FAIL
    assert "superuser" in superuser.detail
    assert _find(findings, "PostgreSQL", "reader login").status is Status.WARN


async def test_servers_that_are_away_are_said_without_their_passwords(database: Database) -> None:
    settings = Settings(
        kafka_bootstrap_servers="127.0.0.1:1",
        database_url=f"postgresql://u:{SECRET}@127.0.0.1:1/d",
        schema_registry_url=f"http://u:{SECRET}@127.0.0.1:1",
        timeout_seconds=1,
    )
    findings = await examine(settings)
    assert [f.status for f in findings] == [Status.FAIL] * 3
    assert all(f.advice for f in findings)
    text = json.dumps(summary(findings))
    assert SECRET not in text
    assert "postgresql://u:***@127.0.0.1:1/d" in text


async def test_a_wrong_password_is_told_apart_from_a_server_away(kafka: str, database: Database) -> None:
    head, _, tail = database.url.rpartition("@")
    url = f"{head.rpartition(':')[0]}:{SECRET}@{tail}"
    finding = _find(
        await examine(_settings(kafka, database, "t", database_url=url)), "PostgreSQL", "reachable"
    )
    assert finding.status is Status.FAIL
    assert "user and password" in finding.advice
    assert SECRET not in finding.detail


def test_something_else_on_the_registry_s_port_is_no_registry() -> None:
    from prometheus_client import CollectorRegistry

    from penstock.telemetry import TelemetryServer

    with TelemetryServer(registry=CollectorRegistry()) as server:
        [finding] = examine_registry(server.url, timeout=5)
    assert finding.status is Status.FAIL
    assert "not as a schema registry" in finding.detail


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0, Status.OK), (1.9, Status.OK), (-1.9, Status.OK), (3, Status.WARN), (-3, Status.WARN)],
)
def test_clocks_may_differ_by_two_seconds(seconds: float, status: Status) -> None:
    finding = judge_clock(timedelta(seconds=seconds))
    assert finding.status is status
    assert ("behind" in finding.detail) is (seconds == -3)


@pytest.mark.parametrize(
    ("kept", "future", "unsealed", "hours", "expected"),
    [
        (4, 3, 0, 80, [Status.OK]),
        (1, 0, 0, 5, [Status.WARN]),
        (1, 0, 0, -1, [Status.WARN]),
        (0, 0, 0, None, [Status.WARN]),
        (9, 3, 5, 80, [Status.OK, Status.WARN]),
    ],
)
def test_partitions_must_be_ahead_and_finished(
    kept: int, future: int, unsealed: int, hours: float | None, expected: list[Status]
) -> None:
    ahead = None if hours is None else timedelta(hours=hours)
    assert [f.status for f in judge_partitions(kept, future, unsealed, ahead, None)] == expected


async def test_a_current_partition_ahead_of_the_clock_is_found(kafka: str, database: Database) -> None:
    settings = _settings(kafka, database, "any")
    owner = await asyncpg.connect(database.url)
    await owner.execute("SELECT penstock.ensure_partitions(0); SELECT penstock.roll()")
    findings, _ = await examine_database(settings)
    assert not [f for f in findings if f.check == "partitions: current"]
    await owner.execute("SELECT penstock.create_partition(now() + interval '10 days')")
    await owner.execute("SELECT penstock.roll(now() + interval '10 days')")
    await owner.close()
    findings, _ = await examine_database(settings)
    found = _find(findings, "PostgreSQL", "partitions: current")
    assert found.status is Status.WARN
    assert "days: PostgreSQL's clock was ahead" in found.detail


def test_missing_privileges_come_before_those_in_excess() -> None:
    wanted = (Privilege("INSERT", "t", True), Privilege("DELETE", "t", False))
    judged = [
        judge_privileges(DatabaseRole.WORKER, "u", superuser, wanted, has)
        for superuser, has in (
            (False, (True, False)),
            (False, (False, True)),
            (False, (True, True)),
            (True, (True, False)),
        )
    ]
    assert [f.status for f in judged] == [Status.OK, Status.FAIL, Status.FAIL, Status.FAIL]
    assert "lacks INSERT" in judged[1].detail
    assert "may DELETE" in judged[2].detail


def test_the_worst_finding_decides_and_the_object_counts_them() -> None:
    findings = [fine("a", "b", "c"), warned("a", "b", "c", "d")]
    assert worst(findings) is Status.WARN
    assert worst([]) is Status.OK
    found = summary([*findings, failed("a", "b", "c", "d")])
    assert found["status"] == "fail"
    assert found["counts"] == {"ok": 1, "warn": 1, "fail": 1}
    assert found["checks"][2] == {
        "component": "a",
        "check": "b",
        "status": "fail",
        "detail": "c",
        "advice": "d",
    }
