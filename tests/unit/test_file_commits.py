"""Group commit of the file backend: turns, places and the deadline of one append."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from fixtures.waiting import wait_for_async
from penstock_schemas import Event
from penstock_store.appending import Prepared, prepare
from penstock_store.file import _commits as commits_module
from penstock_store.file._commits import Commits
from penstock_store.file._writer import Settled
from penstock_store.read_errors import StoreUnavailable

_SOON = 0.01  # seconds: a deadline that is waited for


class _Disk:
    """Takes one turn for each permit in `turns`; `taken` are the keys of every turn it began."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(0)
        self.taken: list[list[str]] = []

    def commit(self, groups: Sequence[Prepared]) -> list[Settled]:
        self.taken.append([group.keys[0][1] for group in groups])
        assert self.turns.acquire(timeout=30)
        return [[] for _ in groups]


@pytest.fixture
def disk() -> Iterator[_Disk]:
    made = _Disk()
    yield made
    made.turns.release(1_000)  # no thread is left behind


def _append(key: str) -> Prepared:
    return prepare([Event(event_type="a", entity_id="e", idempotency_key=key)])


async def test_written_is_told_after_each_turn_also_where_others_wait(disk: _Disk) -> None:
    """With two appenders or more the queue is never empty: nothing was compressed, max_files did not hold."""
    told: list[int] = []
    commits = Commits(disk.commit, lambda: told.append(len(disk.taken)), timeout=30)
    first = asyncio.ensure_future(commits.submit(_append("1")))
    await wait_for_async(lambda: disk.taken == [["1"]], what="the first turn")
    second = asyncio.ensure_future(commits.submit(_append("2")))
    await asyncio.sleep(0)  # it waits for the next turn
    disk.turns.release()
    await first
    assert told == [1]
    disk.turns.release()
    await second
    await commits.settle(30)
    assert told == [1, 2]


async def test_waiting_for_a_place_is_within_the_deadline(
    disk: _Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits_module, "_WAITING", 0)
    commits = Commits(disk.commit, lambda: None, timeout=_SOON)
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable, match="call again"):
            await commits.submit(_append("1"))
    assert disk.taken == []


@pytest.mark.parametrize("cancelled", [False, True], ids=["timed_out", "cancelled"])
async def test_a_hung_disk_holds_no_more_batches_than_places(
    disk: _Disk, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """A caller that gave up left its batch behind and freed its place: the queue grew without end."""
    monkeypatch.setattr(commits_module, "_WAITING", 3)
    commits = Commits(disk.commit, lambda: None, timeout=30 if cancelled else _SOON)
    for number in range(8):
        call = asyncio.ensure_future(commits.submit(_append(str(number))))
        if number == 0:
            await wait_for_async(lambda: disk.taken == [["0"]], what="the disk to hang")
        await asyncio.sleep(0)
        if cancelled:
            call.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else StoreUnavailable):
            await call
    disk.turns.release(2)
    await commits.settle(30)
    assert disk.taken == [["0"]]  # the others had not been handed over: they are withdrawn
    assert await commits.submit(_append("9")) == []
    assert disk.taken == [["0"], ["9"]]
