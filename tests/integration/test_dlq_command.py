"""`penstock dlq` as a person and a program see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from fixtures.consuming import PipelineFactory, event
from fixtures.librdkafka import produce_unreadable
from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock_consumer.bounded import read, watermarks
from penstock_consumer.dead_letters import PREFIX, KafkaDeadLetters
from penstock_consumer.interfaces import DeadLetter
from penstock_consumer.record_headers import UNREADABLE
from penstock_schemas.errors import RegistryUnavailable
from penstock_schemas.registry import InMemoryRegistry

SECRET = "s3cr3t-passphrase"


class Commands:
    """A topic whose records are dead letters, and the command pointed at it."""

    def __init__(self, topic: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.topic = topic
        self._capsys = capsys

    def run(self, *arguments: str, code: ExitCode = ExitCode.OK) -> tuple[str, str]:
        assert run(["dlq", *arguments]) == code
        said = self._capsys.readouterr()
        assert SECRET not in said.out + said.err
        return said.out, said.err

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--json")[0].splitlines()]


@pytest.fixture
async def dead(
    make_pipeline: PipelineFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Commands:
    """Three: an event with a secret in it, JSON, and bytes that are neither."""
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {})
    pipeline.produce(
        [
            ("e1", pipeline.encode(event(1, payload={"login": {"password": SECRET}, "n": 1}))),
            ("e2", json.dumps({"token": SECRET, "ok": True}).encode()),
            (None, b"\x09\xff\x00binary"),
        ]
    )
    ends = watermarks(pipeline.settings(), pipeline.topic)
    assert ends is not None
    records = [r for some in read(pipeline.settings(), pipeline.topic, ends) for r in some]
    sink = KafkaDeadLetters(pipeline.settings())
    reasons = ("key_conflict", "wrong_magic", "wrong_magic")
    await sink.send(
        [
            DeadLetter(record, "TASK_PUT", reason, f"refused\x1b[31m: password={SECRET}", "A", "id")
            for record, reason in zip(records, reasons, strict=True)
        ]
    )
    await sink.close()
    monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP_SERVERS", pipeline.kafka)
    monkeypatch.setenv("PENSTOCK_TOPICS", pipeline.topic)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    class Known(InMemoryRegistry):
        def __new__(cls, *_: object, **__: object) -> Any:
            return pipeline.schemas

    monkeypatch.setattr("penstock_schemas.registry.SchemaRegistry", Known)
    monkeypatch.setattr(InMemoryRegistry, "close", lambda _: None, raising=False)
    return Commands(pipeline.topic, capsys)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_list_names_each_with_its_cause_within_the_width(
    dead: Commands, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out, err = dead.run("list")
    lines = out.splitlines()
    assert lines[0].split()[0] == "record"
    assert len(lines) == 4
    assert max(map(len, lines)) <= max(width, len(f"{dead.topic}:0@0") + 2)
    assert f"{dead.topic}:0@0" in lines[1]
    if width >= 80:
        assert lines[0].split()[1] == "time"
        assert "key_conflict" in lines[1]
    assert "\x1b" not in out
    assert err == ""
    out, err = dead.run("list", "-n", "2")
    assert len(out.splitlines()) == 3
    assert "more follow" in err


def test_list_as_lines_of_json_and_its_filters(dead: Commands) -> None:
    every = dead.lines("list")
    assert [(one["offset"], one["cause"], one["type"], one["key"]) for one in every] == [
        (0, "key_conflict", "order.placed", "e1"),
        (1, "wrong_magic", None, "e2"),
        (2, "wrong_magic", None, None),
    ]
    assert dead.lines("list", "--type", "order.placed") == every[:1]
    assert dead.lines("list", "--cause", "wrong_magic", "--offset", "2:") == every[2:]
    assert dead.lines("list", "--since", "1h", "--partition", "0") == every
    assert dead.lines("list", "--until", "1h") == []
    assert dead.lines("list", "--state", "redriven") == []


def test_show_gives_the_event_json_or_bytes_without_secrets(dead: Commands) -> None:
    shown = [dead.lines("show", f"{dead.topic}:0@{n}")[0] for n in range(3)]
    assert [one["form"] for one in shown] == ["event", "json", "bytes"]
    assert shown[0]["value"]["payload"] == {"login": {"password": "***"}, "n": 1}
    assert shown[1]["value"] == {"token": "***", "ok": True}
    assert shown[2]["value"] == "0x09ff0062696e617279"
    assert dead.lines("show", f"{dead.topic}:0@2", "--bytes", "2")[0]["value"] == "0x09ff… (9 bytes)"
    out, _ = dead.run("show", f"{dead.topic}:0@0")
    assert '"password": "***"' in out
    assert "\x1b" not in out
    _, err = dead.run("show", f"{dead.topic}:0@7", code=ExitCode.FAILED)
    assert "no dead letter" in err


def test_headers_that_could_not_be_read_are_said_and_hinder_no_command(dead: Commands, kafka: str) -> None:
    name = f"{dead.topic}.dlq"
    place = [(f"{PREFIX}topic", dead.topic), (f"{PREFIX}partition", "0"), (f"{PREFIX}offset", "9")]
    headers = [(of.encode(), value.encode()) for of, value in [*place, (UNREADABLE, "unreadable")]]
    produce_unreadable(kafka, name, [b"of ours"], headers=headers)
    produce_unreadable(kafka, name, [b"another program's"])
    assert [one["headers_lost"] for one in dead.lines("list")] == [False, False, False, True]
    assert dead.lines("show", f"{dead.topic}:0@9")[0]["headers_lost"] is True
    assert "1 record of other programs" in dead.run("stats")[1]
    assert dead.run("redrive", "--all")[0] == "4 dead letters redriven.\n"


def test_a_dead_letter_of_another_topic_is_left_out_and_hinders_no_redrive(
    dead: Commands, kafka: str
) -> None:
    for topic in ("payments", f"{dead.topic}.dlq"):  # the one is not there, the other would take it
        place = [(f"{PREFIX}topic", topic), (f"{PREFIX}partition", "0"), (f"{PREFIX}offset", "0")]
        producer = Producer({"bootstrap.servers": kafka})
        producer.produce(f"{dead.topic}.dlq", b"of Connect", headers=place)
        assert producer.flush(30) == 0
    assert [one["topic"] for one in dead.lines("list")] == [dead.topic] * 3
    assert len(dead.lines("show", f"{dead.topic}:0@0")) == 1
    assert dead.lines("stats")[0][dead.topic]["foreign"] == 2
    out, err = dead.run("redrive", "--all")
    assert out == "3 dead letters redriven.\n"
    assert "left out 2 records of other programs or other topics" in err


def test_redrive_and_discard_in_order_of_caution(dead: Commands) -> None:
    dead.run("redrive", code=ExitCode.USAGE)
    dead.run("discard", "--reason", "x", code=ExitCode.USAGE)
    dead.run("redrive", "--all", "--cause", "wrong_magic", code=ExitCode.USAGE)
    out, err = dead.run("redrive", "--cause", "key_conflict", "--dry-run")
    assert out == "1 dead letter would be redriven.\n"
    assert f"would be: {dead.topic}:0@0 key_conflict order.placed" in err
    assert dead.run("redrive", "--cause", "key_conflict")[0] == "1 dead letter redriven.\n"
    (said,) = dead.lines("discard", "--offset", "2", "--reason", "noise")
    assert said == {
        "dry_run": False,
        "discarded": 1,
        "topics": {dead.topic: 1},
        "left": {"attempts": 0, "gone": 0, "too_large": 0},
    }
    assert [one["state"] for one in dead.lines("list", "--state", "all")] == ["redriven", "open", "discarded"]
    assert dead.lines("list", "--state", "discarded")[0]["mark"]["reason"] == "noise"
    (counts,) = dead.lines("stats")
    assert counts[dead.topic]["states"] == {"open": 1, "redriven": 1, "discarded": 1}
    assert counts[dead.topic]["types"]["(not decodable)"] == {"open": 1, "redriven": 0, "discarded": 1}
    out, _ = dead.run("stats")
    assert "key_conflict" in out


def test_a_registry_that_is_away_is_said_and_chooses_nothing(
    dead: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_self: object, _schema_id: int) -> str:
        raise RegistryUnavailable("the registry at http://127.0.0.1:1 did not answer")

    monkeypatch.setattr(InMemoryRegistry, "schema", away)
    out, err = dead.run("list")
    assert len(out.splitlines()) == 4
    assert "Event types are unknown" in err
    _, err = dead.run("redrive", "--type", "order.placed", code=ExitCode.UNAVAILABLE)
    assert "cannot be told" in err
    assert len(dead.lines("list")) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--offset", "x"),
        ("list", "--since", "yesterday"),
        ("list", "--state", "gone"),
        ("show", "nothing"),
        ("redrive", "--all", "--max-attempts", "0"),
        ("discard", "--all"),
        ("list", "--limit", "9" * 20),
        ("redrive", "--all", "--limit", "9" * 20),
        ("discard", "--all", "--reason", " "),
        ("redrive", "--partition", "-1"),
    ],
)
def test_wrong_input_is_said_with_the_option(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dlq", *arguments]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "Invalid value" in said.err or "Missing option" in said.err
