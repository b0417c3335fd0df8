"""Group commit: appends that wait at the same time are written together and share one fsync."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from penstock_store.appending import AppendResult, Prepared
from penstock_store.errors import StoreError
from penstock_store.file._writer import Settled
from penstock_store.read_errors import StoreUnavailable

__all__ = ["Commits"]

_TOGETHER: Final = 10_000  # events that are written by one fsync
_WAITING: Final = 1_000  # calls that may wait for the disk; more wait for their turn to wait

Commit = Callable[[Sequence[Prepared]], list[Settled]]


class Commits:
    """`commit` blocks, and is called from a thread, one call at a time; `written` after each."""

    def __init__(self, commit: Commit, written: Callable[[], None], *, timeout: float) -> None:
        self._commit = commit
        self._written = written
        self._timeout = timeout
        self._queue: OrderedDict[asyncio.Future[Settled], Prepared] = OrderedDict()
        self._places = asyncio.Semaphore(_WAITING)
        self._task: asyncio.Task[None] | None = None

    async def submit(self, prepared: Prepared) -> list[AppendResult]:
        """What the append came to. Raises what it was refused with, or StoreUnavailable."""
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout):
                await self._places.acquire()
                # Not with its caller, who may give up while the disk has the batch.
                future.add_done_callback(lambda _done: self._places.release())
                self._queue[future] = prepared
                if self._task is None or self._task.done():
                    self._task = asyncio.create_task(self._run(), name="penstock-file-commit")
                await asyncio.wait({future})  # leaves it be where this is cancelled
        except TimeoutError:
            raise StoreUnavailable(
                f"The disk did not finish an append within {self._timeout:g} s. Whether it was stored is not"
                " known: call again with the same events, their keys make that safe."
            ) from None
        finally:
            if self._queue.pop(future, None) is not None:  # not handed to the disk yet: it is withdrawn
                future.cancel()
        settled = future.result()
        if isinstance(settled, StoreError):
            raise settled
        return settled

    async def settle(self, seconds: float) -> None:
        """Wait for what was submitted."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    async def _run(self) -> None:
        while self._queue:
            groups = self._next_groups()
            try:
                settled = await asyncio.to_thread(self._commit, [group for group, _ in groups])
            except Exception as error:
                for _group, future in groups:
                    future.set_exception(error)
                    future.exception()  # a caller that gave up does not ask
            else:
                for (_group, future), result in zip(groups, settled, strict=True):
                    future.set_result(result)
            self._written()  # after each: with several appenders the queue is never empty

    def _next_groups(self) -> list[tuple[Prepared, asyncio.Future[Settled]]]:
        groups: list[tuple[Prepared, asyncio.Future[Settled]]] = []
        size = 0
        for future, prepared in self._queue.items():
            size += len(prepared.fields)
            if groups and size > _TOGETHER:
                break
            groups.append((prepared, future))
        for _prepared, future in groups:
            del self._queue[future]
        return groups
