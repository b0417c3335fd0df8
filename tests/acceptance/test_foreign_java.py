"""A Java client that shares no code with ours: Flink's Avro serde, with Confluent's Java client inside.

Maven compiles it once per state of its sources; that needs no JDK, a Java runtime will do.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from fixtures.databases import Database
from fixtures.foreign import (
    BREAKING_SCHEMA,
    NAMES,
    as_foreigner_writes,
    block,
    comparable,
    consume,
    decoded,
    events,
    foreign_events,
    produce,
    squeezed,
)
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for_async
from fixtures.workers import StartWorker
from penstock.stack._lock import exclusive
from penstock_producer import Producer
from penstock_schemas import Event, EventFields
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.registry import SchemaRegistry

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "foreign" / "java"
pytestmark = pytest.mark.timeout(600)  # the first run downloads jars

Java = Callable[..., list[list[str]]]


@pytest.fixture(scope="session")
def java() -> Java:
    """`java(*arguments, stdin="")` runs the client and returns its lines, split at tabs."""
    folder = _built()

    def run(*arguments: str, stdin: str = "") -> list[list[str]]:
        class_path = f"{folder / 'foreign-client.jar'}:{folder / 'libs'}/*"
        ended = subprocess.run(
            ["java", "-Xmx256m", "-Dfile.encoding=UTF-8", "-cp", class_path, "ForeignClient", *arguments],
            input=stdin.encode(),
            capture_output=True,
            timeout=120,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert ended.returncode == 0, ended.stderr.decode(errors="replace")[-3000:]
        return [line.split("\t") for line in ended.stdout.decode().splitlines()]

    return run


def _built() -> Path:
    sources = sorted(file for file in SOURCES.rglob("*") if file.suffix in {".java", ".xml"})
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in sources)).hexdigest()[:12]
    folder = ROOT / ".penstock" / f"foreign-java-{digest}"
    folder.parent.mkdir(exist_ok=True)
    with exclusive(folder.with_suffix(".lock"), timeout_s=540, what="the build of the Java client"):
        if not (folder / "built").exists():
            maven = shutil.which("mvn")
            assert maven, "the foreign Java client needs Maven: install it (Debian: apt-get install maven)"
            ended = subprocess.run(
                [maven, "-q", "-B", "-f", str(SOURCES / "pom.xml"), f"-Doutput={folder}", "package"],
                capture_output=True,
                text=True,
                timeout=500,
                check=False,
            )
            assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
            (folder / "built").touch()
    return folder


def test_java_reads_what_our_producer_wrote(
    kafka: str, topic: TopicFactory, registry: str, java: Java
) -> None:
    name, written = topic(), events()
    with Producer(kafka, topic=name, schema_registry_url=registry) as producer:
        for event in written:
            producer.emit(event)
    lines = java("read", registry, kafka, name, str(len(written)))
    assert len(lines) == len(written)
    for event, (_, text) in zip(written, lines, strict=True):
        assert _without_spelling(json.loads(text)) == _as_java_reads(event)


def _as_java_reads(event: Event) -> dict[str, Any]:
    """Without conversions of logical types; Avro's Java prints bytes as the characters of Latin-1."""
    return _without_spelling(
        {**as_foreigner_writes(event), "content_hash": event.content_hash.decode("latin-1")}
    )


def _without_spelling(record: dict[str, Any]) -> dict[str, Any]:
    payload = record["payload"]
    return {
        **record,
        "payload": json.loads(payload) if isinstance(payload, str) else payload,
        "metadata": json.loads(record["metadata"]),
    }


def test_our_decoder_reads_what_java_registered_and_wrote(
    kafka: str, topic: TopicFactory, registry: str, java: Java
) -> None:
    name, written = topic(), foreign_events("java")
    lines = java("write", registry, kafka, name, GENERIC_SCHEMA, stdin=as_avro_json(written))
    assert lines == [["0", "0"], ["0", "1"]]
    messages = consume(kafka, name, len(written))
    assert [comparable(fields) for fields in decoded(messages, registry)] == [
        comparable(EventFields.of(event)) for event in written
    ]
    ours = SchemaRegistry(registry)
    schema_id = ours.register(f"{name}-value", GENERIC_SCHEMA)
    ours.close()
    assert (messages[0].value() or b"")[1:5] == schema_id.to_bytes(4, "big"), (
        "Java's print of it got another id"
    )


def test_the_example_in_the_documentation_is_an_event(
    kafka: str, topic: TopicFactory, registry: str, java: Java
) -> None:
    shown = block("java")
    program = (SOURCES / "src/main/java/ForeignClient.java").read_text()
    assert squeezed(shown) in squeezed(program)
    name = topic()
    java("example", registry, kafka, name, GENERIC_SCHEMA)
    (message,) = consume(kafka, name, 1)
    fields = decoded([message], registry)[0]
    assert (fields.event_type, fields.entity_id, fields.tenant_id) == ("order.placed", "42", "default")
    assert json.loads(fields.payload) == {"amount": "9.90"}


def as_avro_json(written: list[Event]) -> str:
    """`key TAB record` lines in Avro's JSON encoding, where a union's value names its branch."""
    branches = {"content_hash": "bytes"}
    nullable = {
        field["name"] for field in json.loads(GENERIC_SCHEMA)["fields"] if isinstance(field["type"], list)
    }
    lines = []
    for event in written:
        record = as_foreigner_writes(event)
        for name in nullable & set(NAMES):
            if record[name] is not None:
                record[name] = {branches.get(name, "string"): record[name]}
        lines.append(f"{event.entity_id}\t{json.dumps(record)}\n")
    return "".join(lines)


async def test_the_worker_stores_what_foreigners_wrote(
    kafka: str,
    topic: TopicFactory,
    registry: str,
    database: Database,
    start_worker: StartWorker,
    java: Java,
) -> None:
    """A Java and a Python service write to one topic, neither with any code of ours; every column arrives."""
    name, by_java, by_python = topic(), foreign_events("java"), foreign_events("python")
    java("write", registry, kafka, name, GENERIC_SCHEMA, stdin=as_avro_json(by_java))
    with SchemaRegistryClient({"url": registry, "timeout": 20}) as client:
        serialize = AvroSerializer(client, GENERIC_SCHEMA)
        context = SerializationContext(name, MessageField.VALUE)
        records = [{**as_foreigner_writes(event), "occurred_at": event.occurred_at} for event in by_python]
        values = [serialize(record, context) or b"" for record in records]
    produce(kafka, name, zip((event.entity_id for event in by_python), values, strict=True))
    start_worker(
        {
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "PENSTOCK_DATABASE_URL": database.url,
            "PENSTOCK_WORKER_DATABASE_URL": database.writer_url,
            "PENSTOCK_SCHEMA_REGISTRY_URL": registry,
            "PENSTOCK_TOPICS": name,
            "PENSTOCK_GROUP_ID": f"group-{name}",
        }
    )
    written = [*by_java, *by_python]
    connection = await asyncpg.connect(database.reader_url, timeout=10)
    try:

        async def everything() -> bool:
            return int(await connection.fetchval("SELECT count(*) FROM penstock.events")) == len(written)

        await wait_for_async(everything, 60, "four rows")
        rows = await connection.fetch("SELECT * FROM penstock.events ORDER BY sequence")
    finally:
        await connection.close(timeout=10)
    for event, row in zip(written, rows, strict=True):
        stored = {**row, "payload": json.loads(row["payload"]), "metadata": json.loads(row["metadata"])}
        assert {column: stored[column] for column in NAMES} == {
            column: getattr(event, column) for column in NAMES
        }


def test_everything_that_confluents_java_client_can_ask_for(registry: str, java: Java) -> None:
    said = dict(java("registry", registry, "orders/value", GENERIC_SCHEMA, BREAKING_SCHEMA))
    schema_id = said.pop("id")
    assert int(schema_id) > 0
    assert said == {
        "unknown": "40401",
        "id again": schema_id,
        "version": "1",
        "versions": "[1]",
        "subjects of id": "[orders/value]",
        "versions of id": "1",
        "same schema": "true",
        "latest": "1",
        "compatible": "false",
        "why not": "false",
        "refused": "409",
        "level": "NONE NONE",
        "versions after": "[1, 2]",
        "all subjects": "true",
    }
