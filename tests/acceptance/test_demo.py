"""`penstock demo` as a newcomer runs it, on servers that the environment names: twice, then a look around."""

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fixtures.databases import Database
from fixtures.processes import RunPenstock
from penstock.cli.exit_codes import ExitCode
from penstock.demo.result import instant
from penstock.demo.sample import poison_records, sample_events
from penstock.demo.tally import Tally

_DEADLINE = 150.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def environ(kafka: str, database: Database, run_penstock: RunPenstock) -> Iterator[Mapping[str, str]]:
    """A stack of this test's own: its database, topic and group on the shared servers, its own processes."""
    mark = uuid.uuid4().hex[:10]
    environ = {
        "PENSTOCK_STACK": f"demo-{mark}",
        "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PENSTOCK_DATABASE_URL": database.url,
        "PENSTOCK_WORKER_DATABASE_URL": database.writer_url,
        "PENSTOCK_READER_DATABASE_URL": database.reader_url,
        "PENSTOCK_RETENTION_DATABASE_URL": database.retention_url,
        "PENSTOCK_REGISTRY_DATABASE_URL": database.registry_url,
        "PENSTOCK_TOPICS": f"demo-{mark}",
        "PENSTOCK_GROUP_ID": f"demo-{mark}",
    }
    yield environ
    run_penstock(environ, "down", "--wipe")
    admin = AdminClient({"bootstrap.servers": kafka})
    made = [name for name in admin.list_topics(timeout=30).topics if name.startswith(f"demo-{mark}")]
    for future in (admin.delete_topics(made, operation_timeout=30) if made else {}).values():
        future.result(30)


def _expected() -> tuple[dict[str, object], int]:
    """What the sample must come to, by a plain count; and how many of its events are new."""
    first: dict[str, bytes] = {}
    outcomes = {"duplicates": 0, "conflicts": 0}
    events = list(sample_events())
    for event in events:
        if event.idempotency_key not in first:
            first[event.idempotency_key] = event.content_hash
        else:
            same = first[event.idempotency_key] == event.content_hash
            outcomes["duplicates" if same else "conflicts"] += 1
    poison = len(poison_records(b"\0" * 10))
    return {
        "emitted": len(events) + poison,
        "stored": len(first),
        **outcomes,
        "dead_letters": poison,
        "entities": len({event.entity_id for event in events}),
        "correlations": len({event.correlation_id for event in events}),
        "event_types": len({event.event_type for event in events}),
        "first": instant(min(event.occurred_at for event in events)),
        "last": instant(max(event.occurred_at for event in events)),
    }, len(first)


def test_the_demo_accounts_for_every_record_and_stores_nothing_twice(
    environ: Mapping[str, str], run_penstock: RunPenstock, tmp_path: Path
) -> None:
    expected, new = _expected()
    done = run_penstock(environ, "demo", "--json", deadline=_DEADLINE)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    assert set(found) == {*expected, "seconds"}
    assert {name: found[name] for name in expected} == expected

    again = json.loads(run_penstock(environ, "demo", "--json", deadline=_DEADLINE).stdout)
    assert again["stored"] == 0
    assert again["duplicates"] == new + found["duplicates"]
    assert {
        name: again[name] for name in ("emitted", "conflicts", "dead_letters", "entities", "first", "last")
    } == {name: found[name] for name in ("emitted", "conflicts", "dead_letters", "entities", "first", "last")}

    summary = run_penstock(environ, "demo", deadline=_DEADLINE)
    assert summary.returncode == ExitCode.OK
    assert "Nothing is missing" in summary.stdout
    assert "penstock down" in summary.stdout

    doctor = run_penstock(environ, "doctor", "--json")
    checks = json.loads(doctor.stdout)["checks"]
    assert [check for check in checks if check["status"] == "fail"] == []
    assert doctor.returncode == ExitCode.OK

    _a_file_with_bad_lines_is_emitted_without_them(environ, run_penstock, tmp_path)


def _a_file_with_bad_lines_is_emitted_without_them(
    environ: Mapping[str, str], run_penstock: RunPenstock, folder: Path
) -> None:
    lines = [
        f'{{"specversion":"1.0","id":"{number}","source":"/test","type":"t","subject":"e","time":"2026-01-0{number}T00:00:00Z"}}'
        for number in (1, 2, 3)
    ]
    (folder / "own.jsonl").write_text("\n".join([lines[0], "no event", lines[1], lines[2]]))
    done = run_penstock(environ, "demo", "own.jsonl", "--json", deadline=_DEADLINE)
    assert done.returncode == ExitCode.OK, done.stderr
    found = json.loads(done.stdout)
    assert (found["emitted"], found["stored"], found["entities"]) == (3, 3, 1)
    assert (found["first"], found["last"]) == ("2026-01-01T00:00:00.000Z", "2026-01-03T00:00:00.000Z")
    assert "1 line of own.jsonl not emitted" in done.stderr
    assert "line 2" in done.stderr


def test_a_worker_that_never_comes_is_said_in_words(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline's own wait ends: not after a fixed time, but when nothing moves."""
    import asyncio

    from penstock.demo import pipeline
    from penstock.demo.source import BadLines, Source
    from penstock.errors import ServerUnavailableError
    from penstock.settings import load_settings
    from penstock_schemas import Event

    monkeypatch.setattr(pipeline, "_STALL", 1.0)
    monkeypatch.setattr(pipeline, "Producer", _RawProducer)
    settings = load_settings(environ=environ, servers=False)
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.create_topics([NewTopic(settings.topics[0], 2, 1)], operation_timeout=30)[
        settings.topics[0]
    ].result(30)
    events = iter([Event(event_type="t", entity_id="e")])
    source = Source(name="one", events=events, bad=BadLines(), done=lambda: None, poison=lambda _: [])
    with pytest.raises(ServerUnavailableError, match="Still in Kafka: 1 record\\."):
        asyncio.run(pipeline.run_demo(settings, source, lambda *_: None))


class _RawProducer:
    """Puts a record into the topic without a schema registry."""

    def __init__(self, servers: str, *, topic: str, **_: object) -> None:
        from confluent_kafka import Producer

        self._producer = Producer({"bootstrap.servers": servers})
        self._topic = topic

    def __enter__(self) -> "_RawProducer":
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(30)

    def encode(self, event: object) -> object:
        from penstock_producer.encoded import EncodedEvent

        return EncodedEvent(event, self._topic, b"x", b"k")  # type: ignore[arg-type]

    def emit(self, _encoded: object) -> None:
        self._producer.produce(self._topic, b"x")

    def flush(self, timeout: float) -> None:
        assert self._producer.flush(timeout) == 0


def test_the_tally_of_the_sample_finds_nothing_wrong_with_itself() -> None:
    tally = Tally()
    for event in sample_events():
        tally.emitted(event)
    assert tally.missing == tally.distinct > 2000
