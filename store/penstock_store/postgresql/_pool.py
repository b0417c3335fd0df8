"""A pool of connections, for reads or for writes, on which every wait has a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog

from penstock_store.breaker import CircuitBreaker
from penstock_store.driver import DRIVER_ERRORS
from penstock_store.dsn import redact_dsn
from penstock_store.errors import StoreError
from penstock_store.postgresql._failures import READ, LostConnection, Unreachable, Use, store_error
from penstock_store.postgresql.reader_settings import ReaderSettings
from penstock_store.read_errors import CLOSED, CircuitOpen, StoreUnavailable

__all__ = ["Pool"]

_FOR_EVER: Final = 2**31  # asyncpg closes a connection after that many queries, waiting without a bound
_FIRST_PAUSE: Final = 0.1  # seconds before a lost statement is tried again, four times as long each time

_log = structlog.get_logger(__name__)


class _Call:
    """One `fetch`, however often it is tried."""

    sent = False  # some try went out: the server may have carried it out


class Pool:
    """`fetch` is all that a store needs: one statement, its own transaction, a deadline.

    Pools of one server share a `breaker`. `use` gives errors their words.
    """

    def __init__(
        self, settings: ReaderSettings, breaker: CircuitBreaker | None = None, use: Use = READ
    ) -> None:
        self._settings = settings
        self._use = use
        self.breaker = breaker or CircuitBreaker(
            failures=settings.breaker_failures, pause=settings.breaker_pause
        )
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    async def close(self) -> None:
        """Close the connections; end those that do not close in time. Safe to call again."""
        self._closed = True
        async with self._opening:
            pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._settings.close_timeout):
                await pool.close()
        except DRIVER_ERRORS:
            pool.terminate()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """One call of the store, however many statements and repeats: bounded by `call_timeout`."""
        try:
            async with asyncio.timeout(self._settings.call_timeout):
                yield
        except TimeoutError:
            raise StoreUnavailable(
                f"The call was not done within {self._settings.call_timeout:g} s, repeats included."
                f" Try again in a moment, or raise call_timeout.{self._use.in_doubt}"
            ) from None

    async def fetch(
        self, text: str, values: Sequence[Any] = (), *, repeatable: bool = True
    ) -> list[asyncpg.Record]:
        """The statement's rows; where a connection was lost tried again on another one. What is not
        `repeatable`, because a second time it would answer otherwise, only as long as it was not sent.

        Raises `StoreUnavailable` or `StoreRefused`.
        """
        call, pause, left = _Call(), _FIRST_PAUSE, self._settings.attempts
        async with self.call():
            while True:
                left -= 1
                try:
                    return await self._fetch_once(call, text, values)
                except StoreUnavailable as error:
                    if left and isinstance(error, LostConnection) and (repeatable or not call.sent):
                        _log.debug("statement_is_tried_again", cause=str(error), in_seconds=pause)
                    elif self._in_doubt(error, call):
                        said = f"{error}{self._use.in_doubt}"
                        raise StoreUnavailable(said, sqlstate=error.sqlstate) from error
                    else:
                        raise
                await asyncio.sleep(pause)
                pause *= 4

    def _in_doubt(self, error: StoreUnavailable, call: _Call) -> bool:
        """The server may have carried it out: the answer is what was lost."""
        answered = error.sqlstate is not None and not isinstance(error, LostConnection)
        return bool(self._use.in_doubt) and call.sent and not answered

    async def _fetch_once(self, call: _Call, text: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        if not self.breaker.admits(call):
            raise CircuitOpen(
                f"PostgreSQL at {redact_dsn(self._settings.dsn)} is away; the call was not sent. It is asked"
                f" again in {self.breaker.retry_in:.1f} s. The last it came to: {self.breaker.cause}"
            )
        try:
            rows = await self._fetch_now(call, text, values)
        except Unreachable as error:
            self.breaker.failed(call, str(error))
            raise
        except StoreUnavailable as error:  # slow or busy: only whoever looks whether it is back minds
            self.breaker.failed_trial(call, str(error))
            raise
        except StoreError:
            self.breaker.answered()
            raise
        else:
            self.breaker.answered()
            return rows
        finally:
            self.breaker.abandoned(call)

    async def _fetch_now(self, call: _Call, text: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        try:
            async with self._connection() as connection:
                call.sent = True
                return await self._run(connection, text, values)
        except DRIVER_ERRORS as error:
            raise store_error(error, self._settings.dsn, self._use) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = await self._opened()
        try:
            connection = await pool.acquire(timeout=self._settings.acquire_timeout)
        except TimeoutError:
            if pool.get_size() < self._settings.pool_size:  # there was room: it was the server
                raise Unreachable(
                    f"PostgreSQL at {redact_dsn(self._settings.dsn)} took no connection in time. Is it"
                    " started, and the address right?"
                ) from None
            raise StoreUnavailable(
                f"No connection to PostgreSQL within {self._settings.acquire_timeout:g} s: all"
                f" {self._settings.pool_size} connections that {self._use.verb} are busy."
                f" Raise pool_size, or {self._use.verb} less at once."
            ) from None
        try:
            yield connection
        finally:
            await pool.release(connection, timeout=self._settings.close_timeout)

    async def _opened(self) -> Any:
        async with self._opening:
            if self._closed:
                raise StoreUnavailable(CLOSED)
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    **self._settings.connection_options(),
                    min_size=0,  # connections are made when they are needed
                    max_size=self._settings.pool_size,
                    max_queries=_FOR_EVER,
                    reset=_nothing_to_reset,
                )
            return self._pool

    async def _run(self, connection: Any, text: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(self._settings.command_timeout):
                rows: list[asyncpg.Record] = await connection.fetch(text, *values)
                return rows
        except TimeoutError:
            connection.terminate()
            raise StoreUnavailable(
                f"PostgreSQL did not answer a {self._use.verb} within"
                f" {self._settings.command_timeout:g} s; its connection was ended. {self._use.slow},"
                " or raise command_timeout."
            ) from None
        except (asyncio.CancelledError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            connection.terminate()  # a polite cancel waits for the server, without a bound
            raise


async def _nothing_to_reset(_connection: Any) -> None:
    """Single statements leave nothing behind: the default reset would cost each a round trip."""
