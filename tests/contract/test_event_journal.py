"""The journal facade: one behaviour over both backends, chosen by argument or environment."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fixtures.databases import Database
from penstock_schemas import Event
from penstock_store.journal import EventJournal, create_event_journal
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_errors import AppendConflict, CorruptedEvents, InvalidSettings, UnknownBackend


def _event(**fields: Any) -> Event:
    return Event(event_type="order.placed", entity_id="e", **fields)


@pytest.fixture(params=["file", "postgres"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventJournal]:
    environ = {"EVENT_JOURNAL_BACKEND": request.param}
    if request.param == "postgres":
        database: Database = request.getfixturevalue("database")
        environ["DATABASE_URL"] = database.writer_url.replace("postgresql://", "postgresql+asyncpg://")
    made = await create_event_journal(directory=tmp_path / "events", environ=environ)
    yield made
    await made.close()


async def test_an_event_is_appended_once_for_ever(journal: EventJournal) -> None:
    await journal.initialize()
    events = [_event(payload={"n": number}) for number in range(5)]
    assert [await journal.append_event(event) for event in events] == [True] * 5
    assert not await journal.append_event(events[2])
    assert await journal.append_event(_event(idempotency_key="k"))
    assert not await journal.append_event(_event(idempotency_key="k"))
    with pytest.raises(AppendConflict):
        await journal.append_event(_event(idempotency_key="k", payload={"another": 1}))
    read = [event.event_id async for event in journal.read_events()]
    assert read[:5] == [event.event_id for event in events]
    assert len(read) == 6
    assert not inspect.iscoroutinefunction(journal.get_metrics)
    metrics = journal.get_metrics()
    assert (metrics.appended, metrics.duplicates, metrics.errors, metrics.read) == (6, 2, 1, 6)
    assert metrics.append_latency.count == 9
    await journal.close()
    await journal.close()
    with pytest.raises(StoreUnavailable):
        await journal.append_event(_event())


async def test_the_argument_goes_before_the_environment_and_file_is_the_default(tmp_path: Path) -> None:
    choices: list[tuple[str | None, Mapping[str, str]]] = [
        ("file", {"EVENT_JOURNAL_BACKEND": "postgres", "DATABASE_URL": "postgresql://nowhere/x"}),
        (None, {}),
        (None, {"EVENT_JOURNAL_BACKEND": ""}),
    ]
    for backend, environ in choices:
        async with await create_event_journal(backend, directory=tmp_path, environ=environ) as journal:
            assert journal.get_metrics().backend == "file"


async def test_the_process_environment_counts_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_JOURNAL_BACKEND", "nonsense")
    with pytest.raises(UnknownBackend, match="nonsense"):
        await create_event_journal(directory=tmp_path)


async def test_a_postgres_journal_without_address_says_what_to_set() -> None:
    with pytest.raises(InvalidSettings, match="DATABASE_URL"):
        await create_event_journal("postgres", environ={})


async def test_corrupted_lines_are_skipped_unless_told_otherwise(tmp_path: Path) -> None:
    async with await create_event_journal("file", directory=tmp_path) as journal:
        for number in range(3):
            await journal.append_event(_event(payload={"n": number}))
        (path,) = tmp_path.glob("events-*")  # noqa: ASYNC240
        path.write_bytes(path.read_bytes().replace(b'{"n":1}', b'{"n":7}'))
        assert [event.payload["n"] async for event in journal.read_events()] == [0, 2]
        with pytest.raises(CorruptedEvents):
            _ = [event async for event in journal.read_events(skip_corrupted=False)]
