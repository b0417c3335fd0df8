"""The examples of docs/event-store.md, as they stand there but for addresses, what they leave to the reader,
and an end where they would go on for ever.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from penstock_schemas import Event
from penstock_store.backends import create_event_store
from penstock_store.journal import create_event_journal
from penstock_store.moving import MirroredStore
from penstock_store.projections import ProjectionRunner

PAGE = Path(__file__).parents[2] / "docs" / "event-store.md"
_HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)
_EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def _examples() -> dict[str, str]:
    """By heading; the first one stands before any."""
    text = PAGE.read_text()
    return {
        ([found[1] for found in _HEADING.finditer(text, 0, example.start())] or [""])[-1]: example[1]
        for example in _EXAMPLE.finditer(text)
    }


EXAMPLES = _examples()


async def _run(heading: str, scope: dict[str, Any], changes: dict[str, str] | None = None) -> dict[str, Any]:
    example = EXAMPLES[heading]
    for written, meant in (changes or {}).items():
        assert written in example
        example = example.replace(written, meant)
    code = compile(example, f"{PAGE}: {heading}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    pending = eval(code, scope)  # a coroutine where the example awaits
    if pending is not None:
        await pending
    return scope


def _event(amount: int, entity: str = "42") -> Event:
    return Event(event_type="order.paid", entity_id=entity, payload={"amount": amount})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("EVENT_JOURNAL_BACKEND", "EVENT_JOURNAL_MIRROR", "PENSTOCK_EVENT_STORE_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_every_example_is_run() -> None:
    run = re.findall(r'_run\(\s*"([^"]*)"', Path(__file__).read_text())
    assert set(run) - {"([^"} == set(EXAMPLES)


async def test_the_first_lines(folder: Path) -> None:
    scope = await _run(
        "", {}, {"        ...": "        seen.append(event)", "async with": "seen = []\nasync with"}
    )
    assert (scope["first"].stored, scope["again"].stored) == (True, False)
    assert [event.event_type for event in scope["seen"]] == ["order.placed", "order.paid"]
    assert (folder / "events").is_dir()


async def test_a_subscription_with_a_name() -> None:
    sent: list[int] = []

    async def send_mail(event: Any) -> None:
        sent.append(event.sequence)

    async with create_event_store("memory") as store:
        await store.append_batch([_event(1), _event(2)])
        scope: dict[str, Any] = {"store": store, "send_mail": send_mail}
        ended = {"save(event.sequence)": "save(event.sequence)\n        if event.sequence == 2: break"}
        await _run("Subscriptions with a name", scope, ended)
        assert sent == [1, 2]
        kept = await store.get_checkpoint("mailer")
        assert kept is not None
        assert kept.sequence == 2


async def test_projections(database: Database) -> None:
    scope = await _run("Projections", {"__name__": "shop"})
    async with create_event_store("postgresql", dsn=database.url) as store:
        await store.append_batch([_event(1), _event(2), _event(5, "43")])
        for name in ("totals", "count"):
            await ProjectionRunner(store, scope[name]).run(once=True)
        kept = await store.get_checkpoint("projection/count")
        assert kept is not None
        assert kept.state == 3
    reader = await asyncpg.connect(database.reader_url, timeout=10)
    try:
        rows = await reader.fetch("SELECT customer, amount FROM projection_totals.totals ORDER BY customer")
        assert [tuple(row) for row in rows] == [("42", 3), ("43", 5)]
    finally:
        await reader.close(timeout=5)


async def test_the_state_of_an_entity() -> None:
    async with create_event_store("memory") as store:
        await store.append_batch([_event(4), _event(5)])
        scope = {"store": store, "withdrawal": _event(-3), "__name__": "shop"}
        loaded = (await _run("The state of an entity", scope))["loaded"]
        assert (loaded.state, loaded.version) == (9, 2)
        assert (await store.load("42", scope["balance"], 0)).state == 6


async def test_configuration(folder: Path) -> None:
    found = re.search(r"```toml\n(# penstock.toml\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    one_line = found[1].replace('backend = "postgresql"', 'backend = "file"')
    assert one_line != found[1]
    (folder / "penstock.toml").write_text(one_line)
    await _run("Configuration", {})
    assert (folder / "events").is_dir()


@pytest.mark.parametrize("backend", ["file", "postgres"])
async def test_the_journal(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("EVENT_JOURNAL_BACKEND", backend)
    monkeypatch.setenv("DATABASE_URL", database.writer_url.replace("postgresql:", "postgresql+asyncpg:"))
    event = _event(1)
    scope = await _run("The journal", {"event": event})
    journal = scope["journal"]
    try:
        assert await journal.append_event(event) is False
        assert [one.event_id async for one in journal.read_events()] == [event.event_id]
        assert journal.get_metrics().appended == 1
    finally:
        await journal.close()


async def test_the_ledger(database: Database) -> None:
    async with asyncpg.create_pool(database.url, min_size=1, max_size=2) as pool:
        handled: list[str] = []
        scope = {"pool": pool, "ts": "1.2", "user": "ann", "handled": handled}
        changes: dict[str, str] = {"    ...": "    handled.append(user)"}
        for _ in range(2):
            scope = await _run("The idempotency ledger", scope, changes)
        assert handled == ["ann"]
        assert await scope["ledger"].is_processed("billing", "approve:1.2:ann")


async def test_without_stopping(folder: Path, database: Database) -> None:
    """The lines in the text: the mirror's, and the switch."""
    found = re.search(r"`store = (MirroredStore\(.*\))`;$", PAGE.read_text(), re.MULTILINE)
    assert found
    scope = {"MirroredStore": MirroredStore, "create_event_store": create_event_store}
    make: Callable[..., Any] = eval(f"lambda url: {found[1]}", scope)
    async with create_event_store("file", directory="events") as old:
        await old.append(_event(1))
    async with make(database.writer_url) as store:
        await store.append(_event(2))
        await store.switch()
        await store.append(_event(3))
    async with create_event_store("postgresql", dsn=database.writer_url) as new:
        assert [event.payload["amount"] async for event in new.stream()] == [1, 2, 3]
    async with await create_event_journal("file", directory="events") as journal:
        assert [event.payload["amount"] async for event in journal.read_events()] == [1, 2]
