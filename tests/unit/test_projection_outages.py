"""A projection outlasts its store being away: at the start, standing by, between batches."""

from __future__ import annotations

import asyncio
from typing import Any

from fixtures.waiting import wait_for_async
from penstock_schemas import Event, RecordedEvent
from penstock_store._common import EVERYTHING
from penstock_store.checkpoint_records import CheckpointState, Claim
from penstock_store.contract import Page, QueryOptions
from penstock_store.memory import MemoryEventStore
from penstock_store.memory.store import _Checkpoints
from penstock_store.projections import ProjectionRunner, projection
from penstock_store.read_errors import StoreUnavailable


class _Store(MemoryEventStore):
    """Refuses pages, claims and looks at what expired while it is `away`."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refused = 0
        self._checkpoints = _Records(self)

    def look(self) -> None:
        self.refused += self.away
        if self.away:
            raise StoreUnavailable("the server is away")

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        self.look()
        return await super().get_events(options)

    async def folded(self, wanted: int) -> bool:
        kept = await self.get_checkpoint("projection/count")
        return kept is not None and kept.state == wanted


class _Records(_Checkpoints):
    def __init__(self, store: _Store) -> None:
        super().__init__(store._clock)
        self._store = store

    async def claim(self, claim: Claim) -> CheckpointState:
        self._store.look()
        return await super().claim(claim)

    async def expired_through(self) -> int:
        self._store.look()
        return await super().expired_through()


@projection("count", initial=0)
def count(state: int, _event: RecordedEvent) -> int:
    return state + 1


def _event() -> Event:
    return Event(event_type="a", entity_id="e")


async def _outlasts(store: _Store, running: asyncio.Task[Any]) -> None:
    """The store goes away until it has refused twice."""
    before, store.away = store.refused, True
    await wait_for_async(lambda: running.done() or store.refused > before + 1, what="two refusals")
    assert not running.done()
    store.away = False


async def test_a_start_waits_for_the_store() -> None:
    store = _Store()
    await store.append(_event())
    for once in (True, False):
        runner = ProjectionRunner(store, count)
        running = asyncio.create_task(runner.run(once=once))
        await _outlasts(store, running)
        await wait_for_async(lambda: store.folded(1), what="the event to be folded")
        if not once:
            runner.stop()
        await asyncio.wait_for(running, 30)


async def test_a_standby_stays_one() -> None:
    store = _Store()
    async with store.checkpoint("projection/count"):
        runner = ProjectionRunner(store, count)
        running = asyncio.create_task(runner.run())
        await _outlasts(store, running)
    await store.append(_event())
    await wait_for_async(lambda: store.folded(1), what="the event to be folded")
    runner.stop()
    await asyncio.wait_for(running, 30)


async def test_an_owner_keeps_its_claim_between_batches() -> None:
    store = _Store()
    await store.append(_event())
    runner = ProjectionRunner(store, count)
    running = asyncio.create_task(runner.run())
    await wait_for_async(lambda: store.folded(1), what="the first event to be folded")
    await _outlasts(store, running)
    await store.append(_event())
    await wait_for_async(lambda: store.folded(2), what="the second event to be folded")
    kept = await store.get_checkpoint("projection/count")
    assert kept is not None
    assert kept.epoch == 1
    runner.stop()
    await asyncio.wait_for(running, 30)
