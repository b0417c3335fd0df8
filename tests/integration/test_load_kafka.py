"""`penstock emit` and `penstock load` on a real broker and the embedded registry."""

import gzip
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from fixtures.stack import ROOT
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for
from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock_schemas import EventFields
from penstock_schemas.decoder import Decoder
from penstock_schemas.registry import SchemaRegistry

REAL = ROOT.parent / "shared" / "data" / "loan-applications-2012.jsonl.gz"
Call = Callable[..., tuple[int, str, str]]


def cloudevent(number: int, **attributes: Any) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"{number}",
            "source": "/tests",
            "type": "parcel.scanned",
            "subject": f"P{number % 40}",
            "time": "2026-03-01T12:00:00Z",
            "data": {"n": number},
        }
        | attributes
    ).encode()


@pytest.fixture
def penstock(kafka: str, registry: str, capfd: pytest.CaptureFixture[str]) -> Call:
    """`penstock("load", …)` runs a command on the test's servers: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run([*arguments, "--kafka", kafka, "--registry", registry])
        said = capfd.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def new_topic(kafka: str) -> Iterator[str]:
    """The name of a topic that does not exist; it and its dead letters are deleted after the test."""
    name = f"load-{uuid.uuid4().hex[:12]}"
    yield name
    admin = AdminClient({"bootstrap.servers": kafka})
    made = [topic for topic in (name, f"{name}.dlq") if topic in admin.list_topics(timeout=10).topics]
    for future in admin.delete_topics(made).values() if made else ():
        future.result(30)


def records(kafka: str, registry: str, topic: str) -> list[tuple[int, bytes, EventFields]]:
    """Partition, key and event of every record, in each partition's order."""
    client, decoder = SchemaRegistry(registry), Decoder()
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "t"})
    try:
        parts = [
            TopicPartition(topic, p, 0) for p in consumer.list_topics(topic, 10).topics[topic].partitions
        ]
        total = sum(consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts)
        consumer.assign(parts)
        found: list[tuple[int, bytes, EventFields]] = []
        while len(found) < total:
            for message in consumer.consume(5_000, 10):
                value = message.value() or b""
                schema_id = decoder.schema_id(value)
                if not decoder.knows(schema_id):
                    decoder.add_schema(schema_id, client.schema(schema_id))
                found.append((message.partition() or 0, message.key() or b"", decoder.decode(value)))
        return found
    finally:
        consumer.close()
        client.close()


def test_a_file_arrives_whole_and_each_entity_in_order(
    kafka: str, registry: str, penstock: Call, new_topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join(cloudevent(n) for n in range(5_000))))
    code, out, err = penstock("load", str(file), "--topic", new_topic, "--json")
    summary = json.loads(out)
    assert code == ExitCode.OK, err
    assert (summary["lines"], summary["emitted"], summary["bad"], summary["failed"]) == (5_000, 5_000, 0, 0)
    assert summary["seconds"] > 0

    found = records(kafka, registry, new_topic)
    assert len({partition for partition, _, _ in found}) > 1
    by_entity: dict[str, list[int]] = {}
    for _, key, fields in found:
        assert key == fields.entity_id.encode()
        by_entity.setdefault(fields.entity_id, []).append(json.loads(fields.payload)["n"])
    assert by_entity == {f"P{entity}": list(range(entity, 5_000, 40)) for entity in range(40)}
    made = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    assert f"{new_topic}.dlq" in made


def test_bad_lines_are_left_out_and_named(
    kafka: str, registry: str, penstock: Call, topic: TopicFactory, tmp_path: Path
) -> None:
    name, file = topic(), tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join([cloudevent(0), os.urandom(30).replace(b"\n", b"-"), cloudevent(1)]))
    code, out, err = penstock("load", str(file), "--topic", name)
    assert code == ExitCode.DATA
    assert "bad line 2: " in err
    assert "2 events emitted" in out
    assert [json.loads(fields.payload)["n"] for _, _, fields in records(kafka, registry, name)] == [0, 1]


def test_standard_input_is_read_to_its_end(kafka: str, registry: str, topic: TopicFactory) -> None:
    name = topic()
    command = [sys.executable, "-m", "penstock", "load", "-", "--json", "--topic", name]
    done = subprocess.run(
        [*command, "--kafka", kafka, "--registry", registry],
        input=gzip.compress(b"\n".join(cloudevent(n) for n in range(100))),
        capture_output=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr.decode()
    assert json.loads(done.stdout)["emitted"] == 100
    assert len(records(kafka, registry, name)) == 100


def test_a_load_that_is_told_to_stop_delivers_what_it_took(
    kafka: str, registry: str, topic: TopicFactory
) -> None:
    name = topic()
    command = [sys.executable, "-m", "penstock", "load", "-", "--json", "--topic", name]
    process = subprocess.Popen(
        [*command, "--kafka", kafka, "--registry", registry],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        # more than one read of a pipe, so that lines are taken while stdin stays open
        process.stdin.write(b"\n".join(cloudevent(n) for n in range(5_000)))
        process.stdin.flush()
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": "t"})
        part = TopicPartition(name, 0)
        wait_for(lambda: consumer.get_watermark_offsets(part, timeout=10)[1] > 100, 60, "the first events")
        consumer.close()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    summary = json.loads(out)
    assert process.returncode == ExitCode.INTERRUPTED, err.decode()
    assert (summary["end"], summary["unanswered"]) == ("interrupted", 0)
    assert len(records(kafka, registry, name)) == summary["emitted"] > 100


@pytest.mark.parametrize("name", ["load", "emit"])
def test_a_broker_that_is_away_is_said_at_once_and_has_an_exit_code(
    registry: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr("penstock_consumer.topics._DEADLINE", 2.0)
    monkeypatch.setattr("penstock_consumer._silence._SILENCE", 0.5)
    file = tmp_path / "events.jsonl"
    file.write_bytes(cloudevent(0))
    command = {"load": ["load", str(file)], "emit": ["emit", "--type", "a.b", "--entity", "1"]}[name]
    code = run([*command, "--kafka", "127.0.0.1:1", "--registry", registry])
    assert code == ExitCode.UNAVAILABLE
    waiting, _, given_up = capfd.readouterr().err.partition("Error: ")
    assert "Kafka at 127.0.0.1:1 is not answering" in waiting
    assert "Kafka at 127.0.0.1:1 did not answer" in given_up
    assert "Connection refused" in waiting
    assert "Connection refused" in " ".join(given_up.split())


def test_a_registry_that_is_away_ends_the_load(
    kafka: str, topic: TopicFactory, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PENSTOCK_TIMEOUT_SECONDS", "1")
    file = tmp_path / "events.jsonl"
    file.write_bytes(cloudevent(0))
    command = ["load", str(file), "--topic", topic(), "--json", "--kafka", kafka]
    code = run([*command, "--registry", "http://127.0.0.1:1"])
    said = capfd.readouterr()
    assert code == ExitCode.UNAVAILABLE
    assert json.loads(said.out)["end"] == "unavailable"
    assert "schema registry" in said.err


def test_one_event_from_options(
    kafka: str, registry: str, penstock: Call, new_topic: str, tmp_path: Path
) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"amount": "9.90"}')
    code, out, err = penstock(
        "emit", "--type", "order.placed", "--entity", "42", "--payload", f"@{payload}",
        "--actor", "user:7", "--correlation", "cart-1", "--causation", "click-9", "--tenant", "shop",
        "--tag", "vip", "--tag", "web", "--occurred-at", "2026-03-01T12:00:00+01:00",
        "--idempotency-key", "order-42-placed", "--key", "k", "--topic", new_topic, "--json",
    )  # fmt: skip
    assert code == ExitCode.OK, err
    said = json.loads(out)
    [(partition, key, fields)] = records(kafka, registry, new_topic)
    assert (said["topic"], said["partition"], said["offset"]) == (new_topic, partition, 0)
    assert said["event_id"] == str(uuid.UUID(bytes=fields.event_id))
    assert key == b"k"
    assert (fields.actor_type, fields.actor_id, fields.tenant_id) == ("user", "7", "shop")
    assert (fields.correlation_id, fields.causation_id) == ("cart-1", "click-9")
    assert (fields.idempotency_key, fields.occurred_at) == ("order-42-placed", 1_772_362_800_000_000)
    assert json.loads(fields.payload) == {"amount": "9.90"}
    assert json.loads(fields.metadata) == {"tags": ["vip", "web"]}

    code, out, _ = penstock("emit", "--type", "order.paid", "--entity", "42", "--topic", new_topic)
    assert code == ExitCode.OK
    assert f"order.paid of 42 is in topic {new_topic}, partition" in out


def real_lines(count: int) -> list[bytes]:
    """Of the real data that may lie beside the project; where it does not, lines of our own."""
    if not REAL.is_file():
        return [cloudevent(n, type=f"W_Nabellen {n % 5}", actorid=f"{n % 7}") for n in range(count)]
    with gzip.open(REAL) as opened:
        return [next(opened).rstrip(b"\n") for _ in range(count)]


def test_real_lines_become_the_events_that_they_say(
    kafka: str, registry: str, penstock: Call, topic: TopicFactory, tmp_path: Path
) -> None:
    lines, name, file = real_lines(5_001), topic(3), tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join(lines)))
    code, out, err = penstock("load", str(file), "--topic", name, "--limit", "5000", "--json")
    assert code == ExitCode.OK, err
    assert json.loads(out)["end"] == "limit"
    expected: dict[str, list[tuple[str, str | None]]] = {}
    for line in map(json.loads, lines[:5_000]):
        expected.setdefault(line["subject"], []).append((line["type"], line.get("actorid")))
    found: dict[str, list[tuple[str, str | None]]] = {}
    for _, _, fields in records(kafka, registry, name):
        found.setdefault(fields.entity_id, []).append((fields.event_type, fields.actor_id))
    assert found == expected
