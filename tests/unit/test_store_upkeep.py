"""The published mark after the last batch, when publishing it fails."""

import asyncio

import pytest

from fixtures.waiting import wait_for_async
from penstock_store import _upkeep
from penstock_store._upkeep import Upkeep
from penstock_store.errors import SinkUnavailable


class Marks:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries = 0
        self.published = False

    async def publish(self) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise SinkUnavailable("away")
        self.published = True


async def _no_roll() -> None:
    raise AssertionError("nobody asked for a roll")


async def test_a_mark_that_could_not_be_published_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upkeep, "_AGAIN_SECONDS", 0.01)
    marks = Marks(2)
    upkeep = Upkeep(marks.publish, _no_roll)
    upkeep.ask()
    await wait_for_async(lambda: marks.published, 5, "the mark")
    await upkeep.settle(1)
    assert marks.tries == 3


async def test_a_settled_upkeep_tries_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upkeep, "_AGAIN_SECONDS", 0.01)
    marks = Marks(10**6)
    upkeep = Upkeep(marks.publish, _no_roll)
    upkeep.ask()
    await wait_for_async(lambda: marks.tries > 2, 5, "some tries")
    await upkeep.settle(1)
    tried, later = marks.tries, asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, later.set)
    await later.wait()
    assert marks.tries == tried


async def test_a_roll_that_could_not_pass_is_not_tried_with_every_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it waits for a batch that does not end, all others wait behind it."""
    marks, rolls = Marks(0), list[float]()

    async def roll() -> None:
        rolls.append(asyncio.get_running_loop().time())
        if len(rolls) == 1:
            raise SinkUnavailable("lock timeout", sqlstate="55P03")

    upkeep = Upkeep(marks.publish, roll)

    async def batch() -> None:
        upkeep.ask(roll_due=True)
        await upkeep.settle(5)

    await batch()
    await batch()
    assert len(rolls) == 1
    monkeypatch.setattr(_upkeep, "_ROLL_AGAIN_SECONDS", 0.0)
    upkeep = Upkeep(marks.publish, roll)
    rolls.clear()
    for _ in range(3):
        await batch()
    assert len(rolls) == 3


async def test_only_a_roll_that_cannot_pass_lets_a_late_write_go_on() -> None:
    """One that the server did not answer says nothing: the write after it must not be of the past."""
    failures = [SinkUnavailable("away"), SinkUnavailable("ended", sqlstate="57P01")]

    async def roll() -> None:
        if failures:
            raise failures.pop()

    upkeep = Upkeep(Marks(0).publish, roll)
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            await upkeep.make_current(True)
    assert await upkeep.make_current(True)
    failures.append(SinkUnavailable("lock timeout", sqlstate="55P03"))
    assert not await upkeep.make_current(True)
    assert not await upkeep.make_current(True)  # not tried again so soon
    assert await upkeep.make_current(False)  # but nothing can be written without any partition


async def test_a_late_write_waits_for_the_roll_under_way() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def roll() -> None:
        begun.set()
        await go_on.wait()

    upkeep = Upkeep(Marks(0).publish, roll)
    upkeep.ask(roll_due=True)
    await begun.wait()
    late = [asyncio.create_task(upkeep.make_current(True)) for _ in range(2)]
    done, _ = await asyncio.wait(late, timeout=0.05)
    assert not done
    go_on.set()
    assert await asyncio.gather(*late) == [True, True]
    await upkeep.settle(5)
