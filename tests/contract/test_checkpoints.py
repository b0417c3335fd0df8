"""Named checkpoints: the same tests on every backend."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from fixtures.event_stores import MakeStore, needs
from fixtures.waiting import wait_for_async
from penstock_schemas import Event
from penstock_store.checkpoint_errors import (
    CheckpointHeld,
    CheckpointLost,
    InvalidCheckpoint,
    StateVersionDiffers,
)
from penstock_store.checkpoints import Checkpoint
from penstock_store.contract import QueryOptions
from penstock_store.store_contract import Capability, EventStore

_BLINK = 0.2  # seconds: the shortest lease that tests wait for

pytestmark = needs(Capability.CHECKPOINTS)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[EventStore]:
    async with make_store() as opened:
        yield opened


def _events(count: int, kind: str = "counted") -> list[Event]:
    return [Event(event_type=kind, entity_id=f"e{n % 3}", payload={"n": n}) for n in range(count)]


async def test_it_is_declared(store: EventStore) -> None:
    assert Capability.CHECKPOINTS in store.capabilities


async def test_a_subscription_goes_on_where_its_name_stood(store: EventStore) -> None:
    results = await store.append_batch(_events(10))
    seen: list[uuid.UUID] = []
    for stop in (3, 7, 10):
        async with (
            asyncio.timeout(30),
            store.checkpoint("mailer") as checkpoint,
            aclosing(checkpoint.subscribe()) as events,
        ):
            async for event in events:
                seen.append(event.event_id)
                await checkpoint.save(event.sequence)
                if len(seen) == stop:
                    break
    assert seen == [result.event_id for result in results]
    kept = await store.get_checkpoint("mailer")
    assert kept is not None
    assert (kept.sequence, kept.owner, kept.leased_until, kept.epoch) == (results[-1].sequence, None, None, 3)
    assert await store.get_checkpoint("another") is None


async def test_names_stand_apart_and_are_listed(store: EventStore) -> None:
    async with store.checkpoint("b") as first, store.checkpoint("a ü/..") as second:
        await first.save(7)
        await second.save(9)
        assert first.sequence == 7
    assert [(kept.name, kept.sequence) for kept in await store.get_checkpoints()] == [("a ü/..", 9), ("b", 7)]


async def test_a_state_is_kept_in_one_step_with_its_position(store: EventStore) -> None:
    state = {"sum": 2**70, "ü": [1.5, None]}
    async with store.checkpoint("totals") as checkpoint:
        assert checkpoint.state is None
        await checkpoint.save(5, state)
        await checkpoint.save(6)
        assert checkpoint.state == state
        state["later"] = 1
    async with store.checkpoint("totals") as checkpoint:
        assert (checkpoint.sequence, checkpoint.state) == (6, {"sum": 2**70, "ü": [1.5, None]})
        await checkpoint.save(6, [], state_version=2)
    with pytest.raises(StateVersionDiffers) as caught:
        await store.checkpoint("totals").__aenter__()
    assert (caught.value.kept, caught.value.wanted) == (2, 1)
    async with store.checkpoint("totals", state_version=2) as checkpoint:
        assert checkpoint.state == []


async def test_there_is_one_owner_at_a_time(store: EventStore) -> None:
    async with store.checkpoint("one"):
        with pytest.raises(CheckpointHeld) as caught:
            await store.checkpoint("one", wait=0).__aenter__()
        assert "take=True" in str(caught.value)
    async with store.checkpoint("one", wait=0) as checkpoint:
        assert checkpoint.kept.epoch == 2


async def test_of_many_that_claim_at_once_one_owns_it(store: EventStore) -> None:
    claims = [store.checkpoint("race", wait=0) for _ in range(12)]
    results = await asyncio.gather(*(claim.__aenter__() for claim in claims), return_exceptions=True)
    owners = [one for one in results if not isinstance(one, BaseException)]
    assert len(owners) == 1
    assert sum(isinstance(one, CheckpointHeld) for one in results) == 11
    await owners[0].__aexit__(None, None, None)


async def test_a_standby_goes_on_when_the_owner_leaves(store: EventStore) -> None:
    async with store.checkpoint("pair") as owner:
        standby = asyncio.create_task(store.checkpoint("pair", wait=60).__aenter__())
        await owner.save(4)
        assert not standby.done()
    taken = await asyncio.wait_for(standby, 30)
    assert taken.sequence == 4
    await taken.__aexit__(None, None, None)


async def test_a_superseded_owner_advances_nothing(store: EventStore) -> None:
    await store.append_batch(_events(5))
    zombie = await store.checkpoint("fenced", lease=3_600).__aenter__()
    await zombie.save(1, {"by": "zombie"})
    async with store.checkpoint("fenced", take=True) as owner:
        assert owner.sequence == 1
        await owner.save(2)
        for attempt in (3, 1, 2):
            with pytest.raises(CheckpointLost):
                await zombie.save(attempt, {"by": "zombie", "again": True})
        with pytest.raises(CheckpointLost):
            async with aclosing(zombie.subscribe()) as events:
                await anext(events)
        await zombie.__aexit__(None, None, None)
        kept = await store.get_checkpoint("fenced")
        assert kept is not None
        assert (kept.sequence, kept.state, kept.owner) == (2, {"by": "zombie"}, owner.kept.owner)
        await owner.save(3)


async def test_a_silent_owner_is_superseded_when_its_lease_ends(make_store: MakeStore) -> None:
    """Silent: its loop is stopped, as by SIGSTOP; here its renewal is."""
    async with make_store() as store:
        silent = await store.checkpoint("lease", lease=_BLINK).__aenter__()
        assert silent._renewing is not None
        silent._renewing.cancel()
        async with asyncio.timeout(30), store.checkpoint("lease", wait=30) as owner:
            assert owner.kept.epoch == 2
            with pytest.raises(CheckpointLost):
                await silent.save(1)


async def test_a_quiet_owner_keeps_its_lease(store: EventStore) -> None:
    async with store.checkpoint("quiet", lease=_BLINK) as owner:
        first = await _until(store, "quiet")
        await wait_for_async(lambda: _later(store, "quiet", first), what="the lease to be renewed")
        await owner.save(1)


async def test_a_checkpoint_goes_forward_only(store: EventStore) -> None:
    async with store.checkpoint("forward") as checkpoint:
        await checkpoint.save(5)
        await checkpoint.save(5)
        with pytest.raises(InvalidCheckpoint, match="cannot go back"):
            await checkpoint.save(4)
        for wrong in (-1, True, 2**63, "1"):
            with pytest.raises(InvalidCheckpoint):
                await checkpoint.save(wrong)  # type: ignore[arg-type]
        for state in (float("nan"), "\0", object()):
            with pytest.raises(InvalidCheckpoint):
                await checkpoint.save(6, state)
        assert checkpoint.sequence == 5


async def test_what_cannot_be_a_checkpoint_is_refused(store: EventStore) -> None:
    makers: list[Callable[[], object]] = [
        lambda: store.checkpoint(""),
        lambda: store.checkpoint("x" * 2_000),
        lambda: store.checkpoint("x", lease=0),
        lambda: store.checkpoint("x", lease="x"),  # type: ignore[arg-type]
        lambda: store.checkpoint("x", lease=math.nan),
        lambda: store.checkpoint("x", wait=-1),
        lambda: store.checkpoint("x", wait=None),  # type: ignore[arg-type]
        lambda: store.checkpoint("x", wait=math.nan),
        lambda: store.checkpoint(None),  # type: ignore[arg-type]
        lambda: store.checkpoint("x").sequence,
    ]
    for make in makers:
        with pytest.raises(InvalidCheckpoint):
            make()


async def test_a_name_that_no_checkpoint_can_have_is_refused(store: EventStore) -> None:
    """Each backend answered as it happened to: None, or an error of Python's or the driver's."""
    for name in ("a\ud800", "a\0", "", None):
        with pytest.raises(InvalidCheckpoint, match="the checkpoint's name"):
            await store.get_checkpoint(name)  # type: ignore[arg-type]


async def test_it_moves_past_what_the_options_leave_out(store: EventStore) -> None:
    """Else a rare event's subscription would stand at its last one, and reread the rest after each start."""
    rare = await store.append_batch(_events(1, "rare"))
    others = await store.append_batch(_events(20))

    async def stands_at(sequence: int) -> None:
        async def there() -> bool:
            kept = await store.get_checkpoint("rare")
            return kept is not None and kept.sequence == sequence

        await wait_for_async(there, what=f"the checkpoint to stand at {sequence}")

    async with asyncio.timeout(60), store.checkpoint("rare", lease=_BLINK) as checkpoint:
        events = checkpoint.subscribe(QueryOptions(event_types=["rare"]))
        event = await anext(events)
        following = asyncio.create_task(anext(events))
        before = await _until(store, "rare")
        await wait_for_async(lambda: _later(store, "rare", before), what="a renewal")
        assert checkpoint.sequence == 0  # what was handed out is not saved yet
        await checkpoint.save(event.sequence)
        assert event.sequence == rare[0].sequence
        await stands_at(others[-1].sequence)
        more = await store.append_batch(_events(3))
        await stands_at(more[-1].sequence)
        following.cancel()
        await asyncio.wait({following})


async def test_a_position_may_be_saved_again_once_a_renewal_moved_past_it(store: EventStore) -> None:
    """As periodic saves do, and those at the end: the last event that was handled, once more."""
    rare = await store.append_batch(_events(2, "rare"))
    others = await store.append_batch(_events(5))
    async with asyncio.timeout(60), store.checkpoint("again", lease=_BLINK) as checkpoint:
        events = checkpoint.subscribe(QueryOptions(event_types=["rare"]))
        for _ in rare:
            await checkpoint.save((await anext(events)).sequence)
        following = asyncio.create_task(anext(events))
        await wait_for_async(lambda: checkpoint.sequence == others[-1].sequence, what="the others to pass")
        await checkpoint.save(rare[1].sequence, {"sum": 2})
        assert (checkpoint.sequence, checkpoint.state) == (others[-1].sequence, {"sum": 2})
        with pytest.raises(InvalidCheckpoint, match="cannot go back"):
            await checkpoint.save(rare[0].sequence)
        following.cancel()
        await asyncio.wait({following})
    kept = await store.get_checkpoint("again")
    assert kept is not None
    assert (kept.sequence, kept.state) == (others[-1].sequence, {"sum": 2})


async def _until(store: EventStore, name: str) -> datetime:
    kept = await store.get_checkpoint(name)
    assert kept is not None
    assert kept.leased_until is not None
    return kept.leased_until


async def _later(store: EventStore, name: str, before: datetime) -> bool:
    return await _until(store, name) > before + timedelta(seconds=_BLINK)


async def test_why_an_owner_stopped_is_kept_until_the_next_one(store: EventStore) -> None:
    with pytest.raises(RuntimeError):
        async with store.checkpoint("faulty"):
            raise RuntimeError("no connection to postgresql://me:secret@host/db")
    kept = await store.get_checkpoint("faulty")
    assert kept is not None
    assert kept.fault == "RuntimeError: no connection to postgresql://me:***@host/db"
    assert kept.owner is None
    async with store.checkpoint("faulty"):
        kept = await store.get_checkpoint("faulty")
        assert kept is not None
        assert kept.fault is None


async def test_times_are_in_utc(store: EventStore) -> None:
    async with store.checkpoint("t"):
        kept = await store.get_checkpoint("t")
    assert kept is not None
    assert kept.leased_until is not None
    assert kept.saved_at.utcoffset() == kept.leased_until.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - kept.saved_at) < timedelta(minutes=1)


async def test_another_subscription_in_one_block_is_not_moved_by_the_one_before(store: EventStore) -> None:
    """What the first one's options leave out, the second one's choose."""
    results = await store.append_batch([*_events(1, "rare"), *_events(5)])
    async with asyncio.timeout(60), store.checkpoint("both") as checkpoint:
        rare = checkpoint.batches(QueryOptions(event_types=["rare"]))
        await anext(rare)
        following = asyncio.create_task(anext(rare))  # it looks at the others, and leaves them out
        await wait_for_async(lambda: _passed(checkpoint, results[-1].sequence), what="the look")
        following.cancel()
        await asyncio.wait({following})
        async for event in checkpoint.subscribe(QueryOptions(up_to_sequence=results[2].sequence)):
            await checkpoint.save(event.sequence)
    kept = await store.get_checkpoint("both")
    assert kept is not None
    assert kept.sequence == results[2].sequence


async def _passed(checkpoint: Checkpoint, sequence: int) -> bool:
    return checkpoint._passed >= sequence


async def test_a_lost_checkpoint_may_be_claimed_again(store: EventStore) -> None:
    checkpoint = store.checkpoint("again")
    async with checkpoint:
        async with store.checkpoint("again", take=True) as other:
            await other.save(3)
        with pytest.raises(CheckpointLost):
            await checkpoint.save(4)
    async with checkpoint:
        await checkpoint.save(4)


async def test_a_bounded_subscription_moves_no_further_than_its_bound(store: EventStore) -> None:
    """Else `projection run --once` would leave out what is appended meanwhile."""
    results = await store.append_batch(_events(6))
    async with asyncio.timeout(60), store.checkpoint("bounded") as checkpoint:
        async for event in checkpoint.subscribe(QueryOptions(up_to_sequence=results[2].sequence)):
            await checkpoint.save(event.sequence)
    kept = await store.get_checkpoint("bounded")
    assert kept is not None
    assert kept.sequence == results[2].sequence


async def test_who_has_left_saves_nothing(store: EventStore) -> None:
    """It would lease a checkpoint that nobody owns, and keep the next one waiting."""
    async with store.checkpoint("left") as checkpoint:
        await checkpoint.save(1)
    with pytest.raises(InvalidCheckpoint, match="not claimed"):
        await checkpoint.save(2)
    async with store.checkpoint("left", wait=0) as following:
        assert following.sequence == 1
