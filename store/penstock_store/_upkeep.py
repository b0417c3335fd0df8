"""What follows a commit in PostgreSQL, off the writer's way: the published mark with its NOTIFY, and the roll
when it is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from penstock_store.errors import StoreError

__all__ = ["Upkeep"]

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 5.0
_ROLL_AGAIN_SECONDS = 60.0
"""A roll that waits for a batch of a worker that is stopped keeps everybody else's batches waiting for the
ten seconds of its lock_timeout: not more often than this, until a claim ends the stopped one."""
_AWAY: Final = ("08", "57P")  # SQLSTATE: says nothing about the roll


class Upkeep:
    """At most one run at a time; asked for again while it runs, it runs once more. What failed is tried again
    a little later: after the last write of the day nobody else would, and readers of a replica wait for it.
    """

    def __init__(self, publish: Callable[[], Awaitable[None]], roll: Callable[[], Awaitable[None]]) -> None:
        self._publish = publish
        self._roll = roll
        self._task: asyncio.Task[None] | None = None
        self._wanted = False
        self._roll_due = False
        self._roll_after = 0.0
        self._rolling = asyncio.Lock()
        self._again: asyncio.TimerHandle | None = None

    def ask(self, *, roll_due: bool = False) -> None:
        """Returns at once."""
        self._wanted = True
        self._roll_due |= roll_due
        self._forget_timer()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def make_current(self, ended: bool) -> bool:
        """Before a write that found no partition, or one that has `ended`. False: that one has to do, as a
        roll cannot pass. Raises `StoreError` where nothing can be written.
        """
        if not ended:
            await self._roll()
            return True
        try:
            return await self._roll_now()
        except StoreError as error:
            if not _cannot_pass(error):
                raise
            _log.warning("upkeep_failed", error=str(error))
            return False

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._publish()
                if self._roll_due:
                    self._roll_due = False
                    await self._roll_now()
            except StoreError as error:
                _log.warning("upkeep_failed", error=str(error))
                self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self.ask)
                return

    async def _roll_now(self) -> bool:
        """False: it could not pass a moment ago."""
        async with self._rolling:
            now = asyncio.get_running_loop().time()
            if now < self._roll_after:
                return False
            try:
                await self._roll()
            except StoreError as error:
                if _cannot_pass(error):
                    self._roll_after = now + _ROLL_AGAIN_SECONDS
                raise
            return True

    async def settle(self, seconds: float) -> None:
        """Wait for what was asked for, then give it up."""
        await self._settle(seconds)
        self._forget_timer()

    async def _settle(self, seconds: float) -> None:
        if self._task is None or self._task.done():
            return
        if not (await asyncio.wait({self._task}, timeout=seconds))[0]:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)

    def _forget_timer(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None


def _cannot_pass(error: StoreError) -> bool:
    """The server answered: it is the roll that fails."""
    state = getattr(error, "sqlstate", None)
    return state is not None and not state.startswith(_AWAY)
