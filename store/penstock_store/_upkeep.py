"""What follows a commit in PostgreSQL, off the writer's way: the published mark with its NOTIFY, and the roll
when it is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from penstock_store.errors import StoreError

__all__ = ["Upkeep"]

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 5.0
_ROLL_AGAIN_SECONDS = 60.0
"""A roll that waits for a batch of a worker that is stopped keeps everybody else's batches waiting for the
ten seconds of its lock_timeout: not more often than this, until a claim ends the stopped one."""


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
        self._again: asyncio.TimerHandle | None = None

    def ask(self, *, roll_due: bool = False) -> None:
        """Returns at once."""
        self._wanted = True
        self._roll_due |= roll_due
        self._forget_timer()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

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

    async def _roll_now(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._roll_after:
            return
        self._roll_after = now + _ROLL_AGAIN_SECONDS
        await self._roll()
        self._roll_after = 0.0

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
