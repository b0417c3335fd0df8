"""`penstock events` against a real store, as a process where signals and pipes are the point."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History, random_event
from fixtures.waiting import wait_for
from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock_schemas import Event, RecordedEvent

_DEADLINE = 60.0


class Store:
    """A database with a history; `environ` points the command at it."""

    def __init__(self, database: Database) -> None:
        self._runner = asyncio.Runner()
        self.environ = {"PENSTOCK_READER_DATABASE_URL": database.reader_url}
        connection = self._runner.run(asyncpg.connect(database.url, timeout=10))
        self.history = History(connection)
        self._runner.run(self.history.start())

    def append(self, *events: Event) -> list[RecordedEvent]:
        self._runner.run(self.history.append(events))
        return self.history.events

    def close(self) -> None:
        self._runner.run(self.history.connection.close(timeout=5))
        self._runner.close()


@pytest.fixture
def store(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    made = Store(database)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield made
    made.close()


@pytest.fixture
def process(store: Store) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end after the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for one in started:
        one.kill()
        one.communicate()


def _start(processes: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "events", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    processes.append(process)
    return process


def _lines(out: str) -> list[RecordedEvent]:
    return [RecordedEvent(**json.loads(line)) for line in out.splitlines()]


def test_filters_choose_and_stdout_holds_events_alone(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    events = store.append(*(random_event(rng) for _ in range(60)))
    queries = {
        ("--type", "order.paid", "--type", "order.sent"): lambda e: (
            e.event_type in ("order.paid", "order.sent")
        ),
        ("--actor", "ann"): lambda e: e.actor_id == "ann",
        ("--correlation", "c1"): lambda e: e.correlation_id == "c1",
        ("--entity", "e2"): lambda e: e.entity_id == "e2",
        ("--tenant", "other"): lambda e: e.tenant_id == "other",
        ("--tag", "red", "--tag", "grün"): lambda e: {"red", "grün"} <= set(e.tags),
        ("--payload", '{"state": "paid"}'): lambda e: e.payload.get("state") == "paid",
        ("--since", "2026-01-01T03:00", "--until", "2026-01-01T05:00Z"): lambda e: (
            e.occurred_at.hour in (3, 4)
        ),
        ("--after-sequence", "50"): lambda e: e.sequence > 50,
    }
    for arguments, wanted in queries.items():
        assert run(["events", *arguments, "-o", "jsonl"]) == ExitCode.OK
        assert _lines(capsys.readouterr().out) == [event for event in events if wanted(event)]


def test_order_and_limit_and_what_is_said_of_the_rest(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(2)
    events = store.append(*(random_event(rng) for _ in range(120)))
    assert run(["events", "-n", "5", "-o", "jsonl"]) == ExitCode.OK
    said = capsys.readouterr()
    assert _lines(said.out) == events[:5]
    assert "more follow" in said.err
    assert "--after-sequence 5" in said.err
    assert run(["events", "--order", "time", "--desc", "-n", "0", "-o", "json"]) == ExitCode.OK
    said = capsys.readouterr()
    keys = [(item["occurred_at"], item["sequence"]) for item in json.loads(said.out)]
    assert keys == sorted(keys, reverse=True)
    assert len(keys) == 120
    assert said.err == ""
    assert run(["events", "-o", "jsonl"]) == ExitCode.OK
    assert len(_lines(capsys.readouterr().out)) == 100


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_table_has_the_width_it_is_given(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rng = random.Random(3)
    store.append(*(random_event(rng) for _ in range(20)))
    assert run(["events"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[0].split()[:3] == ["sequence", "time", "(UTC)"]
    assert max(map(len, lines)) <= width


def test_nothing_to_show_is_said_on_stderr(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["events"]) == ExitCode.OK
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "No events match. The store is empty.\n"
    store.append(random_event(random.Random(4)))
    assert run(["events", "--entity", "none", "-o", "json"]) == ExitCode.OK
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "The newest in the store occurred at 2026-01-01" in said.err


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("--since", "5x"), "90s"),
        (("--payload", "[1]"), "JSON"),
        (("--follow", "--desc"), "--desc"),
        (("--follow", "--order", "time"), "--order"),
        (("--limit", "-1"), "limit"),
        (("--entity", "a\0b"), "NUL"),
    ],
)
def test_a_wrong_option_is_explained(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], advice: str
) -> None:
    assert run(["events", *arguments]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert advice in said.err


def test_a_server_that_is_away_is_named_without_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_READER_DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/none")
    assert run(["events"]) == ExitCode.UNAVAILABLE
    said = capsys.readouterr().err
    assert "127.0.0.1:1" in said
    assert "secret" not in said


def test_a_database_without_migrations_is_refused_with_advice(
    empty_database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_READER_DATABASE_URL", empty_database.reader_url)
    assert run(["events"]) == ExitCode.REFUSED
    assert "penstock migrate" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_shows_what_comes_and_ends_by_a_signal(
    store: Store, process: list[subprocess.Popen[str]], number: signal.Signals
) -> None:
    rng = random.Random(5)
    store.append(*(random_event(rng) for _ in range(15)))
    following = _start(process, "--follow", "-o", "jsonl")
    assert following.stdout is not None
    seen = [following.stdout.readline() for _ in range(10)]  # the last ten that were there
    store.append(random_event(rng))
    seen.append(following.stdout.readline())
    store.append(random_event(rng), random_event(rng))
    seen += [following.stdout.readline(), following.stdout.readline()]
    following.send_signal(number)
    out, err = following.communicate(timeout=_DEADLINE)
    assert following.returncode == ExitCode.OK
    assert _lines("".join(seen)) == store.history.events[5:]
    assert out == ""
    assert "Traceback" not in err


def test_following_from_a_start_ends_at_its_limit(store: Store, process: list[subprocess.Popen[str]]) -> None:
    rng = random.Random(6)
    store.append(*(random_event(rng) for _ in range(30)))
    out, err = _start(process, "-f", "--after-sequence", "3", "-n", "20", "-o", "json").communicate(
        timeout=_DEADLINE
    )
    assert [item["sequence"] for item in json.loads(out)] == list(range(4, 24)), err


def test_a_pipe_that_closes_ends_following_also_while_nothing_comes(
    store: Store, process: list[subprocess.Popen[str]]
) -> None:
    store.append(random_event(random.Random(8)))
    following = _start(process, "--follow", "-o", "jsonl")
    assert following.stdout is not None
    assert following.stdout.readline()
    following.stdout.close()
    wait_for(lambda: following.poll() is not None, _DEADLINE, "the command to end")
    assert following.returncode == ExitCode.OK
    assert following.stderr is not None
    assert following.stderr.read().replace("Following; Ctrl-C ends it.\n", "") == ""


@pytest.mark.parametrize(
    "arguments", [("-n", "0"), ("-n", "0", "-o", "json"), ("-f", "--after-sequence", "0")]
)
def test_a_closed_pipe_ends_it_quietly(
    store: Store, process: list[subprocess.Popen[str]], arguments: tuple[str, ...]
) -> None:
    rng = random.Random(7)
    for _ in range(10):
        store.append(*(random_event(rng) for _ in range(500)))
    writing = _start(process, *arguments)
    assert writing.stdout is not None
    assert writing.stdout.readline()
    writing.stdout.close()
    wait_for(lambda: writing.poll() is not None, _DEADLINE, "the command to end")
    assert writing.returncode == ExitCode.OK
    assert writing.stderr is not None
    assert writing.stderr.read().replace("Following; Ctrl-C ends it.\n", "") == ""
