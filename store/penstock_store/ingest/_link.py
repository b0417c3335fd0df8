"""One connection to PostgreSQL on which every wait has a deadline, after which the connection is ended.

asyncpg's own ends are unbounded (a cancelled call waits for the server's answer to the cancellation, `close`
for a server that may be stopped), so the call runs in a task of its own and the transport is aborted first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from penstock_store.driver import DRIVER_ERRORS, SESSION
from penstock_store.dsn import redact_dsn
from penstock_store.errors import SinkBroken, SinkError, SinkUnavailable
from penstock_store.ingest._sqlstate import sink_error

__all__ = ["Link"]

_Result = TypeVar("_Result")
_GRACE_SECONDS = 1.0
_CLOSE_SECONDS = 2.0

_HELLO = """
SELECT pg_backend_pid() AS pid, pg_is_in_recovery() AS standby,
       to_regclass('penstock.offsets') IS NOT NULL AS migrated,
       (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS backend_start,
       CASE current_setting('synchronous_commit')
           WHEN 'off' THEN set_config('synchronous_commit', 'on', false)
       END
"""


class Link:
    """Connects on demand. `pid` and `backend_start` identify the server's process of the present
    connection.
    """

    def __init__(self, dsn: str, *, connect_timeout: float, server_settings: Mapping[str, str]) -> None:
        self._dsn = dsn
        self._connect_timeout = connect_timeout
        self._server_settings = SESSION | dict(server_settings)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._lost = asyncio.Event()
        self.pid = 0
        self.backend_start: datetime | None = None

    @property
    def usable(self) -> bool:
        """A call may go straight ahead."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def connection(self) -> asyncpg.Connection[asyncpg.Record]:
        """The present connection. Raises SinkUnavailable where there is none."""
        if self._connection is None or self._connection.is_closed():
            raise SinkUnavailable("the connection to PostgreSQL is gone. Nothing was committed; retry")
        return self._connection

    async def connect(self) -> None:
        """Replace the connection. Raises SinkUnavailable, or SinkBroken where a retry cannot help."""
        self.terminate()
        self._lost = asyncio.Event()
        doing = f"a connection to {redact_dsn(self._dsn)}"
        try:
            await self.bounded(self._connect(), self._connect_timeout, doing)
        except SinkError:
            # Of a standby, say: once promoted, its connection must not pass for the one of the server before.
            self.terminate()
            raise
        except DRIVER_ERRORS as error:
            self.terminate()
            raise sink_error(error, doing) from error

    async def _connect(self) -> None:
        # asyncpg's own timeout lies a little later, so that there is one deadline and one message.
        self._connection = await asyncpg.connect(
            self._dsn, timeout=self._connect_timeout + 1, server_settings=self._server_settings
        )
        lost = self._lost
        self._connection.add_termination_listener(lambda _: lost.set())
        hello = await self._connection.fetchrow(_HELLO)
        assert hello is not None  # noqa: S101  a SELECT without FROM has one row
        if hello["standby"]:
            raise SinkUnavailable(
                f"{redact_dsn(self._dsn)} is a standby, which takes no writes. Nothing was committed; retry"
            )
        if not hello["migrated"]:
            raise SinkBroken(f"{redact_dsn(self._dsn)} holds no Penstock schema; run `penstock migrate`")
        self.pid = hello["pid"]
        self.backend_start = hello["backend_start"]

    async def bounded(self, work: Coroutine[Any, Any, _Result], seconds: float, doing: str) -> _Result:
        """The result of `work`. Past the deadline, or when cancelled, the connection is ended at once."""
        task = asyncio.ensure_future(work)
        # A COPY that waits for the socket to take more is not told by asyncpg that the connection is gone.
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({task, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if lost.done() and not task.done():
                await asyncio.wait({task}, timeout=_GRACE_SECONDS)
        except asyncio.CancelledError:
            await self._abandon(task)
            raise
        finally:
            was_lost = lost.done()
            lost.cancel()
        if task.done():
            return task.result()
        await self._abandon(task)
        if was_lost:
            raise SinkUnavailable(f"the connection to PostgreSQL was lost during {doing}. Retry")
        raise SinkUnavailable(
            f"PostgreSQL did not finish {doing} within {seconds:g} s; its connection was ended. Retry"
        )

    async def _abandon(self, task: asyncio.Future[Any]) -> None:
        self.terminate()
        # With the transport gone asyncpg fails by itself; what waits elsewhere has to be cancelled.
        if not (await asyncio.wait({task}, timeout=0))[0]:
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE_SECONDS)
        self.terminate()
        if task.done() and not task.cancelled():
            task.exception()

    def terminate(self) -> None:
        """End the connection without waiting for anybody."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Say goodbye where the server listens, in bounded time."""
        if self._connection is None or self._connection.is_closed():
            return
        try:
            await self.bounded(self._connection.close(), _CLOSE_SECONDS, "a goodbye")
        except (*DRIVER_ERRORS, SinkUnavailable):
            self.terminate()
