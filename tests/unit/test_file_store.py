"""The file backend beside what the contract says of every backend: crashes, corruption, rotation, locks."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fixtures.file_stores import forget_index, only_file
from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.file import FileEventStore, FileSettings
from penstock_store.file import _index as index_module
from penstock_store.file import _reading as reading_module
from penstock_store.file import _recovery as recovery_module
from penstock_store.file import _writer as writer_module
from penstock_store.file import store as store_module
from penstock_store.file._index import Index, connect, index_path
from penstock_store.file._recovery import catch_up
from penstock_store.file._segments import Block, compress
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_errors import CorruptedEvents, InvalidSettings, NotSupported, StoreLocked

_SKIPPING = QueryOptions(skip_corrupted=True)


def _event(number: int, **fields: Any) -> Event:
    return Event(
        event_type="order.placed", entity_id=f"e{number % 5}", payload={"n": number, "text": "ü"}, **fields
    )


def _store(directory: Path, **settings: Any) -> FileEventStore:
    return FileEventStore(FileSettings(directory=directory, **settings))


async def _all(store: FileEventStore, options: QueryOptions | None = None) -> list[RecordedEvent]:
    return [event async for event in store.stream(options or QueryOptions())]


async def _read(directory: Path, options: QueryOptions | None = None) -> list[RecordedEvent]:
    async with _store(directory) as store:
        return await _all(store, options)


def _files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("events-*"))


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


async def test_a_line_is_json_with_a_checksum(tmp_path: Path) -> None:
    async with _store(tmp_path, clock=lambda: datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) as store:
        event = _event(1)
        await store.append(event)
    path = only_file(tmp_path)
    assert path.name == "events-20260102T030405.000006Z.jsonl"
    (line,) = path.read_text().splitlines()
    loaded = json.loads(line)
    assert loaded["payload"] == event.payload
    assert loaded["recorded_at"] == "2026-01-02T03:04:05.000006+00:00"
    assert len(loaded["crc32"]) == 8


async def test_a_crash_at_any_byte_of_a_write_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    size = 2  # a batch, so that its middle is among the bytes
    origin, crashed = tmp_path / "origin", tmp_path / "crashed"
    async with _store(origin) as store:
        await store.append_batch([_event(n) for n in range(3)])
    path = only_file(origin)
    before, index = path.read_bytes(), (origin / "index.sqlite").read_bytes()
    expected = await _read(origin)
    async with _store(origin) as store:
        await store.append_batch([_event(10 + n) for n in range(size)])
    after = path.read_bytes()
    complete = await _read(origin)
    assert len(complete) == 3 + size
    for cut in range(len(before), len(after) + 1):
        shutil.rmtree(crashed, ignore_errors=True)
        crashed.mkdir()
        (crashed / path.name).write_bytes(after[:cut])
        if cut % 16:  # with the index of before, and with none
            (crashed / "index.sqlite").write_bytes(index)
        async with _store(crashed) as store:
            assert await _all(store) == (complete if cut == len(after) else expected)
            if cut % 16 and cut < len(after):
                continue
            again = await store.append(_event(99))
            assert again.sequence == (len(complete) if cut == len(after) else 3) + 1
        kept = (crashed / path.name).read_bytes()
        assert kept.startswith(before if cut < len(after) else after)
        assert len(kept.splitlines()) == again.sequence  # nothing of the torn write is left behind it


async def test_a_changed_byte_is_reported_and_skipped_on_request(tmp_path: Path) -> None:
    async with _store(tmp_path) as store:
        await store.append_batch([_event(n) for n in range(9)])
        events = await _all(store)
        path = only_file(tmp_path)
        data = bytearray(path.read_bytes())
        lines = data.splitlines(keepends=True)
        at = sum(map(len, lines[:4])) + 30
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptedEvents, match=path.name) as caught:
            await _all(store)
        assert len(caught.value.places) == 1
        assert await _all(store, _SKIPPING) == events[:4] + events[5:]
        assert len(await store.corrupted()) == 1
        assert (await store.get_metrics()).corrupted == 1
        assert await store.get_event(events[0].event_id) == events[0]
    forget_index(tmp_path)
    async with _store(tmp_path) as store:
        assert await _all(store, _SKIPPING) == events[:4] + events[5:]
        with pytest.raises(CorruptedEvents):
            await store.get_event(events[4].event_id)
        with pytest.raises(CorruptedEvents):
            await store.get_events(QueryOptions(order_by=OrderBy.TIME))
        assert (await store.append(_event(9))).sequence == 10


@pytest.mark.parametrize("removed", [1, 3])
async def test_lines_that_were_removed_are_missed(tmp_path: Path, removed: int) -> None:
    async with _store(tmp_path) as store:
        for number in range(8):
            await store.append(_event(number))
        events = await _all(store)
    path = only_file(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[2 + removed :]))
    async with _store(tmp_path) as store:
        assert await _all(store, _SKIPPING) == events[:2] + events[2 + removed :]
        with pytest.raises(CorruptedEvents, match=rf"{removed} event\(s\) before sequence {removed + 3} are"):
            await _all(store)


async def test_a_corrupted_last_line_keeps_its_sequence(tmp_path: Path) -> None:
    async with _store(tmp_path) as store:
        for number in range(3):
            await store.append(_event(number))
    path = only_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    forget_index(tmp_path)
    async with _store(tmp_path) as store:
        assert (await store.append(_event(3))).sequence == 4
    async with _store(tmp_path) as store:
        assert [event.sequence for event in await _all(store, _SKIPPING)] == [1, 2, 4]
        assert len(await store.corrupted()) == 1


async def _filled(directory: Path, count: int = 120, **settings: Any) -> list[RecordedEvent]:
    async with _store(directory, max_size=4_096, **settings) as store:
        for start in range(0, count, 10):
            await store.append_batch([_event(n) for n in range(start, start + 10)])
        return await _all(store)


async def test_files_rotate_and_are_compressed_and_stay_readable(tmp_path: Path) -> None:
    events = await _filled(tmp_path)
    names = _files(tmp_path)
    assert len(names) > 5
    assert all(name.endswith(".gz") for name in names[:-1])
    assert names[-1].endswith(".jsonl")
    lines = [line for name in names[:-1] for line in _unpacked(tmp_path / name).splitlines()]
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    options = QueryOptions(order_by=OrderBy.EVENT_ID, descending=True)
    backwards = sorted(events, key=lambda event: event.event_id.int, reverse=True)
    for forget in (False, True):
        if forget:
            forget_index(tmp_path)
        async with _store(tmp_path) as store:
            assert await _all(store) == events
            assert await _all(store, options) == backwards
            assert not (await store.append(Event(**_plain(events[5])))).stored


def _plain(event: RecordedEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.model_fields}


async def test_a_gzip_of_another_tool_is_read_as_well(tmp_path: Path) -> None:
    async with _store(tmp_path) as store:
        await store.append_batch([_event(n) for n in range(20)])
        events = await _all(store)
    path = only_file(tmp_path)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    async with _store(tmp_path) as store:
        assert await _all(store) == events
        assert (await store.append(_event(21))).sequence == 21


async def test_a_gzip_that_breaks_off_is_reported_and_read_so_far(tmp_path: Path) -> None:
    events = await _filled(tmp_path)
    path = tmp_path / _files(tmp_path)[1]
    kept = path.read_bytes()
    path.write_bytes(kept[: len(kept) // 2])
    forget_index(tmp_path)
    async with _store(tmp_path) as store:
        with pytest.raises(CorruptedEvents, match="breaks off"):
            await _all(store)
        some = await _all(store, _SKIPPING)
        assert {event.sequence for event in some} < {event.sequence for event in events}
        assert some[0] == events[0]
        assert some[-1] == events[-1]


@pytest.mark.parametrize("known", [True, False], ids=["index_told", "index_not_told"])
async def test_a_crash_while_compressing_loses_nothing(tmp_path: Path, known: bool) -> None:
    events = await _filled(tmp_path, compress=False)
    name = _files(tmp_path)[0].removesuffix(".jsonl")
    (tmp_path / f"{name}.jsonl.tmp").write_bytes(b"half a file")
    if known:
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress((tmp_path / f"{name}.jsonl").read_bytes()))
    async with _store(tmp_path) as store:
        assert await _all(store) == events
    assert not list(tmp_path.glob("*.tmp"))  # noqa: ASYNC240
    assert [name.endswith(".gz") for name in _files(tmp_path)[:-1]] == [True] * (len(_files(tmp_path)) - 1)


async def test_the_oldest_files_go_where_max_files_says_so(tmp_path: Path) -> None:
    async with _store(tmp_path, max_size=4_096, max_files=3) as store:
        for number in range(120):
            await store.append(_event(number))
    async with _store(tmp_path, max_size=4_096, max_files=3) as store:
        await store.append(_event(120))
        await store.close()
    assert len(_files(tmp_path)) <= 3
    kept = await _read(tmp_path)
    forget_index(tmp_path)
    assert await _read(tmp_path) == kept
    assert [event.sequence for event in kept] == list(range(kept[0].sequence, 122))


@pytest.mark.parametrize("more", [1, 15], ids=["same_file", "next_file"])
async def test_appends_after_the_index_was_made_again_are_found(tmp_path: Path, more: int) -> None:
    """The files are numbered anew there, from the oldest that is left."""
    async with _store(tmp_path, max_size=4_096, max_files=3) as store:
        for number in range(60):
            await store.append(_event(number))
    async with _store(tmp_path, max_size=4_096, max_files=3) as store:
        count = await store.rebuild_index()
        kept = await _all(store)
        assert len(kept) == count < 60
        for number in range(60, 60 + more):
            await store.append(_event(number))
        news = await _all(store, QueryOptions(after_sequence=kept[-1].sequence))
        assert [event.payload["n"] for event in news] == list(range(60, 60 + more))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
async def test_lines_that_are_indexed_in_pieces_are_indexed_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Where the last piece was a full one, its last batch counted as not indexed: appends replaced it."""
    async with _store(tmp_path) as store:
        for number in (1, 2):
            await store.append_batch([_event(number), _event(number + 10)])
    monkeypatch.setattr(recovery_module, "_ROWS", rows)
    index_path(tmp_path).unlink()
    async with _store(tmp_path) as store:
        await store.append(_event(3))
        assert [event.payload["n"] for event in await _all(store)] == [1, 11, 2, 12, 3]


async def test_an_index_that_is_made_again_beside_compression_fits_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _store(tmp_path, max_size=4_096, max_files=3, compress=False) as store:
        for number in range(60):
            await store.append(_event(number))
    held, packed = threading.Event(), threading.Event()

    def slow(directory: Path, name: str) -> list[Block]:
        blocks = compress(directory, name)
        packed.set()
        assert held.wait(30)
        return blocks

    monkeypatch.setattr(writer_module, "compress", slow)
    async with _store(tmp_path, max_size=4_096, max_files=3) as store:
        assert await asyncio.to_thread(packed.wait, 30)
        count = await store.rebuild_index()
        held.set()
    assert [name.endswith(".gz") for name in _files(tmp_path)] == [True, True, False]
    async with _store(tmp_path, read_only=True) as reader:  # leaves the index as it is
        assert len(await _all(reader)) == count


@pytest.mark.parametrize("opened_again", [False, True])
async def test_readers_go_over_to_an_index_that_is_made_again(tmp_path: Path, opened_again: bool) -> None:
    """They held the deleted file for ever: nothing new came, and health said ready."""
    writer = _store(tmp_path)
    await writer.append(_event(0))
    async with _store(tmp_path, read_only=True, poll_interval=0.01) as reader:
        live = reader.subscribe()
        assert (await anext(live)).sequence == 1
        if opened_again:
            await writer.close()
            _older(tmp_path / "index.sqlite")
            writer = _store(tmp_path)
        else:
            await writer.rebuild_index()
        await writer.append(_event(1))
        assert [event.sequence for event in await _all(reader)] == [1, 2]
        async with asyncio.timeout(20):
            assert (await anext(live)).sequence == 2
        await live.aclose()
    await writer.close()


async def test_reads_go_on_while_the_index_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await _filled(tmp_path)
    making, held = threading.Event(), threading.Event()

    def slow(index: Index, directory: Path) -> bool:
        making.set()
        assert held.wait(30)
        return catch_up(index, directory)

    async with _store(tmp_path) as writer, _store(tmp_path, read_only=True) as reader:
        with monkeypatch.context() as patched:
            patched.setattr(writer_module, "catch_up", slow)
            rebuilding = asyncio.ensure_future(writer.rebuild_index())
            assert await asyncio.to_thread(making.wait, 30)
            for store in (writer, reader):
                assert await _all(store) == events
                assert (await store.health_check()).ready
            rebuilding.cancel()  # whoever waited is gone; the index is finished all the same
            appending = asyncio.ensure_future(writer.append(_event(1)))
            held.set()
            assert (await appending).sequence == len(events) + 1
        for store in (writer, reader):
            assert len(await _all(store)) == len(events) + 1


async def test_tidying_that_fails_leaves_appends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await _filled(tmp_path, compress=False)

    failed = threading.Event()

    def full(*_args: object) -> None:
        failed.set()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Index, "set_compressed", full)
        async with _store(tmp_path) as store:
            assert await asyncio.to_thread(failed.wait, 30)
            assert (await store.append(_event(0))).stored
    assert len(await _read(tmp_path)) == len(events) + 1


async def test_one_writer_and_many_readers(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="once for writing"):
        await _store(tmp_path, read_only=True).initialize()
    async with _store(tmp_path) as store:
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            await _store(tmp_path).initialize()
        async with _store(tmp_path, read_only=True) as one, _store(tmp_path, read_only=True) as two:
            for reader in (one, two):
                with pytest.raises(NotSupported):
                    await reader.append(_event(1))
                with pytest.raises(NotSupported):
                    await reader.create_snapshot("k", 1, sequence=1)
            news = one.subscribe()
            waiting = asyncio.ensure_future(anext(news))
            await store.append(_event(1))
            async with asyncio.timeout(20):
                assert (await waiting).sequence == 1
            await news.aclose()
            assert len(await _all(two)) == 1
    async with _store(tmp_path) as store:
        assert (await store.append(_event(2))).sequence == 2


async def test_appends_that_wait_together_share_an_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _store(tmp_path) as store:
        await store.append(_event(0))
        synced: list[int] = []
        fsync = os.fsync
        monkeypatch.setattr(writer_module.os, "fsync", lambda handle: (synced.append(handle), fsync(handle)))
        results = await asyncio.gather(*(store.append(_event(n)) for n in range(1, 101)))
        assert sorted(result.sequence for result in results) == list(range(2, 102))
        assert 1 <= len(synced) <= 5


async def test_what_the_disk_refuses_is_not_stored_and_the_store_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    async with _store(tmp_path) as store:
        await store.append(_event(0))
        with monkeypatch.context() as patched:
            patched.setattr(writer_module.os, "fsync", full)
            with pytest.raises(StoreUnavailable, match="No space left"):
                await store.append(_event(1))
        with pytest.raises(StoreUnavailable, match="open it again"):
            await store.append(_event(2))
        health = await store.health_check()
        assert (health.live, health.ready) == (True, False)
        assert len(await _all(store)) == 1
    async with _store(tmp_path) as store:
        assert len(await _all(store)) == 1
        assert (await store.append(_event(1))).sequence == 2


@contextmanager
def _full() -> Iterator[None]:
    """SQLite's own "database or disk is full": an index may not grow."""

    def limited(directory: Path, *, read_only: bool) -> sqlite3.Connection:
        connection = connect(directory, read_only=read_only)
        connection.execute("PRAGMA max_page_count = 1")  # or what it has
        return connection

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(index_module, "connect", limited)
        yield


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched, closing(sqlite3.connect(index_path(directory))) as other:
        patched.setattr(index_module, "_BUSY_SECONDS", 0.01)
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_a_disk_without_room_for_an_index_is_said_in_words(tmp_path: Path) -> None:
    store = _store(tmp_path)
    with _full():
        with pytest.raises(StoreUnavailable, match=r"cannot be used: .*full"):
            await store.initialize()
        health = await store.health_check()
        assert not health.ready
        assert "full" in health.detail
    assert (await store.append(_event(0))).sequence == 1  # the same object
    events = await _all(store)
    with _full(), pytest.raises(StoreUnavailable, match=r"again failed: .*full"):
        await store.rebuild_index()
    assert not (await store.health_check()).ready
    with pytest.raises(StoreUnavailable, match="open it again"):
        await store.append(_event(1))
    assert await _all(store) == events
    await store.close()
    assert await _read(tmp_path) == events


@pytest.mark.parametrize("fault", ["full", "locked"])
async def test_an_index_that_cannot_be_written_now_is_not_thrown_away(tmp_path: Path, fault: str) -> None:
    async with _store(tmp_path) as store:
        await store.append(_event(0))
    path = index_path(tmp_path)
    behind = path.read_bytes()
    events = await _filled(tmp_path, compress=False)
    path.write_bytes(behind)
    with path.open("rb") as kept:
        with _full() if fault == "full" else _locked(tmp_path), pytest.raises(StoreUnavailable, match=fault):
            await _read(tmp_path)
        assert os.fstat(kept.fileno()).st_ino == path.stat().st_ino
    assert await _read(tmp_path) == events


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)


def _older(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _wrong(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE files SET indexed = indexed + 1000")
    connection.close()


@pytest.mark.parametrize("spoil", [_garbage, _older, _emptied, _wrong])
async def test_an_index_that_cannot_be_used_is_made_again(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    events = await _filled(tmp_path)
    spoil(tmp_path / "index.sqlite")
    async with _store(tmp_path) as store:
        assert await _all(store) == events
        assert await store.rebuild_index() == len(events)
        assert await _all(store) == events
        assert (await store.append(_event(1))).sequence == len(events) + 1


@contextmanager
def _stuck(module: object, name: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A function waits: (it was called, it may go on)."""
    called, held = threading.Event(), threading.Event()
    wrapped = getattr(module, name)

    def waiting(*arguments: Any, **more: Any) -> Any:
        called.set()
        assert held.wait(30)
        return wrapped(*arguments, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, name, waiting)
        try:
            yield called, held
        finally:
            held.set()


async def test_a_caller_that_gives_up_opening_leaves_a_store_that_opens(tmp_path: Path) -> None:
    """Its thread went on, and the lock that it took was nobody's."""
    store = _store(tmp_path)
    with _stuck(writer_module, "catch_up") as (making, held):
        opening = asyncio.ensure_future(store.append(_event(0)))
        assert await asyncio.to_thread(making.wait, 30)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        waiting = asyncio.ensure_future(store.append(_event(1)))
        held.set()
        assert (await waiting).sequence == 1
    await store.close()
    assert len(await _read(tmp_path)) == 1


async def test_a_store_that_is_closed_while_it_opens_gives_the_lock_back(tmp_path: Path) -> None:
    store = _store(tmp_path)
    with _stuck(writer_module, "catch_up") as (making, held):
        opening = asyncio.ensure_future(store.initialize())
        assert await asyncio.to_thread(making.wait, 30)
        opening.cancel()
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.append(_event(0))
        held.set()
        await closing
    assert await _read(tmp_path) == []


async def test_a_caller_that_gives_up_closing_leaves_a_store_that_closes(tmp_path: Path) -> None:
    store = _store(tmp_path)
    await store.append(_event(0))
    with _stuck(reading_module.Reader, "close") as (letting_go, held):
        closing = asyncio.ensure_future(store.close())
        assert await asyncio.to_thread(letting_go.wait, 30)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        held.set()
        await store.close()
    assert len(await _read(tmp_path)) == 1


async def test_a_disk_that_hangs_does_not_hold_close_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LETTING_GO", 0.01)
    store = _store(tmp_path, close_timeout=0.01)
    await store.append(_event(0))
    with _stuck(os, "fsync") as (syncing, held):
        appending = asyncio.ensure_future(store.append(_event(1)))
        assert await asyncio.to_thread(syncing.wait, 30)
        async with asyncio.timeout(20):
            await store.close()
        with pytest.raises(StoreLocked):
            await _read(tmp_path)
        held.set()
        assert (await appending).stored

    async def free() -> bool:
        with suppress(StoreLocked):
            return len(await _read(tmp_path)) == 2
        return False

    await wait_for_async(free, what="the lock to be given back")


async def test_a_closed_store_says_that_it_is_closed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    await store.append(_event(1))
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.append(_event(2))
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get_events()
    assert not (await store.health_check()).ready


@pytest.mark.parametrize(
    "wrong",
    [{"max_size": 10}, {"max_files": 1}, {"append_timeout": 0}, {"stream_chunk": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_are_validated(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        FileSettings(directory="x", **wrong)
