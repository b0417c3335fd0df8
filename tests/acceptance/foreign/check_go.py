"""A Go client that shares no code with ours or Confluent's: franz-go and hamba/avro.

Not named `test_…`: `make test` asks for no Go. Run it by `make foreign`, or by its path.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fixtures.foreign import (
    BREAKING_SCHEMA,
    as_foreigner_writes,
    block,
    comparable,
    consume,
    decoded,
    events,
    foreign_events,
    squeezed,
)
from fixtures.topics import TopicFactory
from penstock_producer import Producer
from penstock_schemas import Event, EventFields
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.fields import microseconds

SOURCES = Path(__file__).parent / "go"
pytestmark = pytest.mark.timeout(600)  # the first run downloads modules

Go = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    """`go(*arguments, stdin="")` runs the client and returns its lines, parsed."""
    compiler = shutil.which("go")
    assert compiler, "this test needs Go 1.26 or later"
    program = tmp_path_factory.mktemp("go") / "foreign-client"
    built = subprocess.run(
        [compiler, "build", "-o", str(program), "."],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert built.returncode == 0, built.stderr

    def run(*arguments: str, stdin: str = "") -> list[Any]:
        ended = subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run


def test_go_reads_what_our_producer_wrote(kafka: str, topic: TopicFactory, registry: str, go: Go) -> None:
    name, written = topic(), events()
    with Producer(kafka, topic=name, schema_registry_url=registry) as producer:
        for event in written:
            producer.emit(event)
    found = go("read", registry, kafka, name, str(len(written)))
    assert len(found) == len(written)
    for event, record in zip(written, found, strict=True):
        assert _as_values(record) == _as_values(_as_go_reads(event))


def _as_go_reads(event: Event) -> dict[str, Any]:
    return {
        **as_foreigner_writes(event),
        "occurred_at": event.occurred_at.isoformat(),
        "content_hash": {"bytes": base64.b64encode(event.content_hash).decode()},
        "payload": event.payload if event.typed_payload else json.dumps(event.payload),
    }


def _as_values(record: dict[str, Any]) -> dict[str, Any]:
    """JSON in strings, times and branches of unions, compared by what they mean."""
    plain = {
        name: next(iter(value.values())) if isinstance(value, dict) and name not in ("payload",) else value
        for name, value in record.items()
    }
    time = datetime.fromisoformat(plain["occurred_at"]).astimezone(UTC)
    payload = plain["payload"]
    return {
        **plain,
        "occurred_at": microseconds(time),
        "payload": json.loads(payload) if isinstance(payload, str) else _without_branches(payload),
        "metadata": json.loads(plain["metadata"]),
    }


def _without_branches(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        name: next(iter(value.values())) if isinstance(value, dict) else value
        for name, value in payload.items()
    }


def test_our_decoder_reads_what_go_registered_and_wrote(
    kafka: str, topic: TopicFactory, registry: str, go: Go
) -> None:
    name, written = topic(), foreign_events("go")
    lines = [
        json.dumps({**as_foreigner_writes(event), "occurred_at": event.occurred_at.isoformat()})
        for event in written
    ]
    assert go("write", registry, kafka, name, GENERIC_SCHEMA, stdin="\n".join(lines)) == [[0, 0], [0, 1]]
    messages = consume(kafka, name, len(written))
    assert [comparable(fields) for fields in decoded(messages, registry)] == [
        comparable(EventFields.of(event)) for event in written
    ]


def test_the_example_in_the_documentation_is_in_the_program() -> None:
    program = squeezed((SOURCES / "main.go").read_text())
    lines = [line for line in block("go").splitlines() if "localhost" not in line]
    assert len(lines) == 6
    for line in lines:
        assert squeezed(line).removeprefix("err=") in program


def test_everything_that_franz_gos_client_can_ask_for(registry: str, go: Go) -> None:
    (said,) = go("registry", registry, "orders/value", GENERIC_SCHEMA, BREAKING_SCHEMA)
    schema_id = said.pop("id")
    assert schema_id > 0
    assert said == {
        "unknown": 40401,
        "version": 1,
        "looked up": schema_id,
        "same text": True,
        "latest": 1,
        "types": ["AVRO"],
        "compatible": False,
        "reasons": True,
        "refused": 409,
        "level": "NONE",
        "versions": [1, 2],
        "subjects": "orders/value",
    }
