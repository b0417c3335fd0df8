"""Live reading: where a follower stands, and the hints that wake it (LISTEN, one connection for a store)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import structlog

from penstock_schemas import RecordedEvent
from penstock_store.contract import OrderBy, QueryOptions, beginning
from penstock_store.driver import DRIVER_ERRORS
from penstock_store.postgresql.reader_settings import ReaderSettings

__all__ = ["CHANNEL", "Follow", "Hints"]

CHANNEL: Final = "penstock_events"  # what penstock.publish() notifies
_FIRST_PAUSE: Final = 0.25  # seconds until the connection is tried again, doubled up to the longest
_LONGEST_PAUSE: Final = 30.0

_log = structlog.get_logger(__name__)


class Follow:
    """What one follower has seen. Its position is always the sequence of an event that is stored.

    Never the safe mark itself: after a crash of the server, numbers that no stored event has may be given
    out again.
    """

    def __init__(self, options: QueryOptions, after: int) -> None:
        self.position = beginning(after, options)
        self._remaining = options.limit
        self._finished = False
        self._options = options.replace(order_by=OrderBy.SEQUENCE, descending=False, cursor=None, offset=0)
        self.filtered = self._options.replace(after_sequence=None, limit=None) != QueryOptions()

    @property
    def ended(self) -> bool:
        """Nothing more can follow."""
        return self._finished or self._remaining == 0

    def options(self) -> QueryOptions:
        """What to read next."""
        return self._options.replace(after_sequence=self.position, limit=self._remaining)

    def saw(self, events: Sequence[RecordedEvent]) -> None:
        """`events`, at least one, go to the caller."""
        self.position = events[-1].sequence
        if self._remaining is not None:
            self._remaining -= len(events)

    def passed(self, sequence: int | None, ceiling: int) -> None:
        """Everything up to the mark `ceiling` was looked at; the last event stored there is `sequence`, if
        any.
        """
        if sequence is not None:
            self.position = max(self.position, sequence)
        up_to = self._options.up_to_sequence
        self._finished = up_to is not None and ceiling >= up_to


class Hints:
    """Wakes live readers early. Nothing depends on it: they poll, and only slower without it."""

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._waiting: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscription(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set when something may be new."""
        woken = asyncio.Event()
        self._waiting.add(woken)
        if self._settings.listen and self._task is None:
            self._task = asyncio.create_task(self._keep_listening(), name="penstock-listen")
        try:
            yield woken
        finally:
            self._waiting.discard(woken)
            if not self._waiting:
                await self.close()

    async def close(self) -> None:
        """End the connection. Safe to call again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep_listening(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen()
                pause = _FIRST_PAUSE
            except asyncpg.ReadOnlySQLTransactionError:  # a standby has no LISTEN: polling does
                _log.info("listening_impossible", channel=CHANNEL, reason="the server is a standby")
                return
            except DRIVER_ERRORS as error:
                _log.info(
                    "listening_failed", channel=CHANNEL, error=type(error).__name__, retry_in_seconds=pause
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _listen(self) -> None:
        """Return when the connection ends."""
        ended = asyncio.Event()
        connection = await asyncpg.connect(**self._settings.connection_options())
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            async with asyncio.timeout(self._settings.command_timeout):
                await connection.add_listener(CHANNEL, self._notified)
            self._wake()  # what was published while nobody listened
            await ended.wait()
        finally:
            connection.terminate()

    def _notified(self, *_ignored: Any) -> None:
        self._wake()

    def _wake(self) -> None:
        for woken in self._waiting:
            woken.set()
