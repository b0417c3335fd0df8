"""What the file backend does with the lines and an index that a crash, a power loss or a bad disk left."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixtures.file_stores import forget_index, only_file
from penstock_schemas import Event, RecordedEvent
from penstock_store.contract import QueryOptions
from penstock_store.file import FileEventStore, FileSettings
from penstock_store.file import _writer as writer_module
from penstock_store.file._index import Index, index_path
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_errors import CorruptedEvents

_SKIPPING = QueryOptions(skip_corrupted=True)


def _event(number: int) -> Event:
    return Event(event_type="order.placed", entity_id="e", payload={"n": number, "text": "x" * 200})


def _batch(start: int, size: int) -> list[Event]:
    return [_event(number) for number in range(start, start + size)]


_ticks = count()


def _clock() -> datetime:
    """Every look at it is a microsecond later."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=next(_ticks))


def _store(directory: Path, **settings: Any) -> FileEventStore:
    return FileEventStore(FileSettings(directory=directory, clock=_clock, **settings))


async def _all(store: FileEventStore, options: QueryOptions | None = None) -> list[RecordedEvent]:
    return [event async for event in store.stream(options or QueryOptions())]


async def test_nothing_is_written_over_lines_that_the_index_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _store(tmp_path) as store:
        await store.append_batch(_batch(0, 4))
    behind = index_path(tmp_path).read_bytes()
    async with _store(tmp_path) as store:
        await store.append_batch(_batch(4, 4))
    path = only_file(tmp_path)
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


class _Crashed(NamedTuple):
    """Acknowledged appends of 3 events each, and what was written behind them."""

    directory: Path
    acknowledged: list[RecordedEvent]
    index: bytes  # as it was then

    @property
    def lines(self) -> list[bytes]:
        return only_file(self.directory).read_bytes().splitlines(keepends=True)

    def lose_page(self, line: int, *, keep_index: bool) -> list[bytes]:
        """A power loss: bytes of a line never reached the disk. What stands in the file then."""
        lines = self.lines
        lines[line] = lines[line][:50] + bytes(100) + lines[line][150:]
        only_file(self.directory).write_bytes(b"".join(lines))
        forget_index(self.directory)
        if keep_index:
            index_path(self.directory).write_bytes(self.index)
        return lines


async def _acknowledged(directory: Path, appends: int = 2) -> _Crashed:
    async with _store(directory) as store:
        for number in range(appends):
            await store.append_batch(_batch(3 * number, 3))
        events = await _all(store)
    return _Crashed(directory, events, index_path(directory).read_bytes())


async def _write_together(directory: Path, *sizes: int) -> None:
    """One turn of the disk for several batches."""
    async with _store(directory) as store:
        starts = [100 * (number + 1) for number in range(len(sizes))]
        batches = [_batch(start, size) for start, size in zip(starts, sizes, strict=True)]
        await asyncio.gather(*(store.append_batch(batch) for batch in batches))


@pytest.mark.parametrize(("sizes", "lost", "kept"), [((4,), 7, 6), ((4,), 9, 6), ((2, 3, 1), 9, 8)])
async def test_a_page_that_was_never_written_takes_its_batch_along(
    tmp_path: Path, sizes: tuple[int, ...], lost: int, kept: int
) -> None:
    """The last line was whole: half of a batch that nobody was told of was read, and the rest reported as
    damage for ever.
    """
    crashed = await _acknowledged(tmp_path)
    await _write_together(tmp_path, *sizes)
    lines = crashed.lose_page(lost, keep_index=True)
    async with _store(tmp_path) as store:
        assert (await _all(store))[:6] == crashed.acknowledged
        assert crashed.lines == lines[:kept]
        assert (await store.append(_event(9))).sequence == kept + 1
        assert await store.corrupted() == []


async def test_an_acknowledged_page_is_never_cut_off(tmp_path: Path) -> None:
    """Whatever the index knows of: it was lost, it is of a backup, or a bad disk made the zeros."""
    crashed = await _acknowledged(tmp_path, appends=4)
    for line, keep_index in ((4, True), (4, False), (10, True), (10, False)):
        lines = crashed.lose_page(line, keep_index=keep_index)
        async with _store(tmp_path) as store:
            with pytest.raises(CorruptedEvents):
                [await store.get_event(event.event_id) for event in crashed.acknowledged]
            assert len(await _all(store, _SKIPPING)) == sum(b"\0" not in one for one in lines)
        assert crashed.lines == lines


async def test_what_later_writes_prove_was_fsynced_is_never_cut_off(tmp_path: Path) -> None:
    """An index of a backup knows less than was acknowledged."""
    crashed = await _acknowledged(tmp_path)
    for number in range(3):
        await _write_together(tmp_path, 2 + number)
    lines = crashed.lose_page(7, keep_index=True)
    async with _store(tmp_path) as store:
        assert len(await _all(store, _SKIPPING)) == len(lines) - 1
    assert crashed.lines == lines


def _spoil(directory: Path, name: str) -> None:
    """A page of the index that opening does not read."""
    with closing(sqlite3.connect(index_path(directory))) as sql:
        (page,) = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (size,) = sql.execute("PRAGMA page_size").fetchone()
    with index_path(directory).open("r+b") as index:
        index.seek((page - 1) * size)
        index.write(b"\xff" * size)


async def test_opening_again_mends_an_index_that_an_append_found_damaged(tmp_path: Path) -> None:
    """It looked at `files` and the highest sequence only, and said so again after each opening."""
    crashed = await _acknowledged(tmp_path)
    _spoil(tmp_path, "by_key")
    async with _store(tmp_path) as store:
        with pytest.raises(StoreUnavailable, match="open it again"):
            await store.append(_event(9))
    async with _store(tmp_path) as store:
        assert (await store.append(_event(9))).sequence == 7
        assert (await _all(store))[:6] == crashed.acknowledged
    made = index_path(tmp_path).stat().st_ino
    async with _store(tmp_path):
        assert index_path(tmp_path).stat().st_ino == made  # once is enough


@pytest.mark.parametrize("read_only", [False, True])
async def test_opening_for_writing_mends_an_index_that_a_read_found_damaged(
    tmp_path: Path, read_only: bool
) -> None:
    crashed = await _acknowledged(tmp_path)
    _spoil(tmp_path, "by_event_id")
    event = crashed.acknowledged[0]
    async with _store(tmp_path, read_only=read_only) as store:
        with pytest.raises(StoreUnavailable, match="once for writing"):
            await store.get_event(event.event_id)
    async with _store(tmp_path) as store:
        assert await store.get_event(event.event_id) == event


async def test_an_index_that_was_found_damaged_can_be_made_again_at_once(tmp_path: Path) -> None:
    crashed = await _acknowledged(tmp_path)
    _spoil(tmp_path, "by_event_id")
    event = crashed.acknowledged[0]
    async with _store(tmp_path) as store:
        with pytest.raises(StoreUnavailable):
            await store.get_event(event.event_id)
        assert await store.rebuild_index() == 6
        assert await store.get_event(event.event_id) == event
        made = index_path(tmp_path).stat().st_ino
    async with _store(tmp_path):
        assert index_path(tmp_path).stat().st_ino == made
