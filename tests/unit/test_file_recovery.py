"""What the file backend does with the lines and an index that a crash, a power loss or a bad disk left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from penstock_schemas import Event, RecordedEvent
from penstock_store.contract import QueryOptions
from penstock_store.file import FileEventStore, FileSettings
from penstock_store.file import _writer as writer_module
from penstock_store.file._index import Index, index_path
from penstock_store.read_errors import StoreUnavailable

_SKIPPING = QueryOptions(skip_corrupted=True)


def _event(number: int) -> Event:
    return Event(event_type="order.placed", entity_id="e", payload={"n": number, "text": "x" * 200})


def _batch(start: int, size: int) -> list[Event]:
    return [_event(number) for number in range(start, start + size)]


def _ticking() -> Callable[[], datetime]:
    """Every look at it is a microsecond later."""
    ticks = count()
    return lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=next(ticks))


def _store(directory: Path, **settings: Any) -> FileEventStore:
    return FileEventStore(FileSettings(directory=directory, clock=_ticking(), **settings))


async def _all(store: FileEventStore, options: QueryOptions | None = None) -> list[RecordedEvent]:
    return [event async for event in store.stream(options or QueryOptions())]


def _only_file(directory: Path) -> Path:
    (path,) = directory.glob("events-*")
    return path


def _forget_index(directory: Path) -> None:
    for path in directory.glob("index.sqlite*"):
        path.unlink()


async def test_nothing_is_written_over_lines_that_the_index_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _store(tmp_path) as store:
        await store.append_batch(_batch(0, 4))
    behind = index_path(tmp_path).read_bytes()
    async with _store(tmp_path) as store:
        await store.append_batch(_batch(4, 4))
    path = _only_file(tmp_path)
    lines = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "catch_up", lambda _index, _directory: True)
        index_path(tmp_path).write_bytes(behind)
        store = _store(tmp_path)
        with pytest.raises(StoreUnavailable, match=rf"{path.name} has {len(lines):,} bytes"):
            await store.append(_event(8))
        await store.close()
    async with _store(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(Index, "files", _one_short(Index.files))
            with pytest.raises(StoreUnavailable, match="again failed"):
                await store.rebuild_index()
        with pytest.raises(StoreUnavailable, match="open it again"):
            await store.append(_event(8))
    assert path.read_bytes() == lines
    async with _store(tmp_path) as store:
        assert (await store.append(_event(8))).sequence == 9


def _one_short(files: Callable[[Index], list[tuple[int, str, bool, int]]]) -> Callable[[Index], Any]:
    return lambda index: [(number, name, packed, end - 1) for number, name, packed, end in files(index)]
