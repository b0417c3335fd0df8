"""Checkpoints of the file store: what a crash leaves, other processes, and files that were removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_schemas import Event, RecordedEvent
from penstock_store.backends import create_event_store
from penstock_store.checkpoint_errors import CheckpointLost, EventsExpired
from penstock_store.read_errors import StoreUnavailable


def _events(count: int) -> list[Event]:
    return [Event(event_type="counted", entity_id="e", payload={"text": "x" * 400}) for _ in range(count)]


async def test_a_change_that_was_cut_off_leaves_the_one_before(tmp_path: Path) -> None:
    async with create_event_store("file", directory=tmp_path) as store:
        async with store.checkpoint("c") as checkpoint:
            await checkpoint.save(5, {"kept": True})
        (kept,) = (tmp_path / "checkpoints").glob("*.json")
        whole = kept.read_bytes()
        for cut in range(0, len(whole), 7):
            kept.with_suffix(".tmp").write_bytes(whole[:cut])  # a crash before the rename
            found = await store.get_checkpoint("c")
            assert found is not None
            assert found.sequence == 5
        async with store.checkpoint("c") as checkpoint:
            await checkpoint.save(6)


async def test_a_spoilt_checkpoint_is_an_error_and_no_new_beginning(tmp_path: Path) -> None:
    async with create_event_store("file", directory=tmp_path) as store:
        async with store.checkpoint("c") as checkpoint:
            await checkpoint.save(5)
        (kept,) = (tmp_path / "checkpoints").glob("*.json")
        kept.write_bytes(kept.read_bytes()[:-9])
        with pytest.raises(StoreUnavailable, match="backup"):
            await store.checkpoint("c").__aenter__()


async def test_a_reader_in_another_process_has_a_position_too(tmp_path: Path) -> None:
    async with create_event_store("file", directory=tmp_path) as writer:
        await writer.append_batch(_events(3))
        async with create_event_store("file", directory=tmp_path, read_only=True) as reader:
            mine = await reader.checkpoint("c").__aenter__()
            await mine.save((await anext(mine.subscribe())).sequence)
            async with writer.checkpoint("c", take=True) as other:
                assert other.sequence == 1
                with pytest.raises(CheckpointLost):
                    await mine.save(2)


async def test_events_that_max_files_removed_unread_are_said(tmp_path: Path) -> None:
    async with create_event_store("file", directory=tmp_path, max_size=4_096, max_files=2) as store:
        await store.append_batch(_events(3))
        async with store.checkpoint("slow") as checkpoint:
            await checkpoint.save(1)
    async with create_event_store("file", directory=tmp_path, max_size=4_096, max_files=2) as store:
        for _ in range(8):
            await store.append_batch(_events(10))
    async with create_event_store("file", directory=tmp_path, max_size=4_096, max_files=2) as store:
        with pytest.raises(EventsExpired) as caught:
            await store.checkpoint("slow").__aenter__()
        async with store.checkpoint("slow", accept_loss=True) as checkpoint:
            first = await anext(checkpoint.subscribe())
        assert first.sequence == caught.value.expired_through + 1 > 4


def count(state: int, _event: RecordedEvent) -> int:
    return state + 1


async def test_a_state_is_not_folded_without_events_that_were_removed(tmp_path: Path) -> None:
    async with create_event_store("file", directory=tmp_path, max_size=4_096, max_files=2) as store:
        await store.append_batch(_events(3))
        assert (await store.load("e", count, 0, snapshot_every=1)).expired_through is None
        for _ in range(8):
            await store.append_batch(_events(10))
    async with create_event_store("file", directory=tmp_path, max_size=4_096, max_files=2) as store:
        for named in ({}, {"name": "without a snapshot", "snapshot_every": 1}):
            with pytest.raises(EventsExpired, match="accept_loss=True") as caught:
                await store.load("e", count, 0, **named)
            with pytest.raises(EventsExpired, match="correlation 'none'"):
                await store.load_correlation("none", count, 0)
        there = await store.load("e", count, 0, accept_loss=True, snapshot_every=1)
        assert there.expired_through == caught.value.expired_through > 3
        assert there.events_read == 83 - there.expired_through
        assert there.snapshot_taken  # from here on it is whole: that was accepted
        assert (await store.load("e", count, 0)).expired_through is None
