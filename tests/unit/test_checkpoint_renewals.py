"""A checkpoint's renewals beside the saves of its owner, where answers are lost or late."""

from __future__ import annotations

import asyncio

import pytest

from fixtures.waiting import wait_for_async
from penstock_schemas import Event
from penstock_store._local_checkpoints import LocalCheckpoints
from penstock_store.checkpoint_errors import InvalidCheckpoint
from penstock_store.checkpoint_records import Move
from penstock_store.checkpoints import Checkpoint
from penstock_store.contract import QueryOptions
from penstock_store.memory import MemoryEventStore
from penstock_store.memory.store import _Checkpoints
from penstock_store.read_errors import StoreUnavailable

_RARE = QueryOptions(event_types=["rare"])


class _Records(_Checkpoints):
    """What `trouble` names befalls a renewal, a move to 6 without a state."""

    trouble: str | None = None
    late: asyncio.Event | None = None

    async def save(self, move: Move) -> bool:
        if self.late is not None and move.sequence < 6:
            await self.late.wait()
        done = await LocalCheckpoints.save(self, move)
        if self.trouble == "lost" and move.sequence == 6 and move.state is None:
            raise StoreUnavailable("the answer was lost")
        return done


async def _store() -> tuple[MemoryEventStore, _Records]:
    store = MemoryEventStore()
    await store.append(Event(event_type="rare", entity_id="e"))
    await store.append_batch([Event(event_type="other", entity_id="e") for _ in range(5)])
    records = _Records(store._clock)
    store._checkpoints = records
    return store, records


async def _handled(checkpoint: Checkpoint) -> asyncio.Task[object]:
    """The one rare event is saved, and the others are being passed over."""
    events = checkpoint.subscribe(_RARE)
    await checkpoint.save((await anext(events)).sequence)
    return asyncio.create_task(anext(events))  # type: ignore[arg-type]


async def _ended(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _row(store: MemoryEventStore) -> int:
    kept = await store.get_checkpoint("c")
    assert kept is not None
    return kept.sequence


async def test_a_renewal_whose_answer_was_lost_stands_in_no_saves_way() -> None:
    store, records = await _store()
    async with store.checkpoint("c", lease=0.1) as checkpoint:
        following = await _handled(checkpoint)
        records.trouble = "lost"

        async def moved() -> bool:
            return await _row(store) == 6

        await wait_for_async(moved, what="the renewal")
        await checkpoint.save(1, {"sum": 1})
        assert checkpoint.sequence == 6
        records.trouble = None
        await _ended(following)


async def test_a_save_that_a_renewal_overtook_is_done_all_the_same() -> None:
    store, records = await _store()
    async with store.checkpoint("c", lease=0.1) as checkpoint:
        records.late = asyncio.Event()
        records.late.set()
        following = await _handled(checkpoint)
        records.late.clear()
        saving = asyncio.create_task(checkpoint.save(1, {"sum": 1}))

        async def moved() -> bool:
            return await _row(store) == 6

        await wait_for_async(moved, what="the renewal")
        records.late.set()
        await saving
        assert (checkpoint.sequence, checkpoint.state) == (6, {"sum": 1})
        await _ended(following)


async def test_a_save_that_was_done_without_an_answer_is_not_undone() -> None:
    """The state would be older than the position that it is kept with."""
    store, records = await _store()
    async with store.checkpoint("c") as checkpoint:
        await checkpoint.save(3, {"sum": 3})
        records.trouble = "lost"
        with pytest.raises(StoreUnavailable):
            await checkpoint.save(6)
        with pytest.raises(InvalidCheckpoint, match="stands at sequence 6"):
            await checkpoint.save(4, {"sum": 4})
