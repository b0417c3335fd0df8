"""The idempotency ledger: which events a team has handled. For handlers outside the pipeline; needs nothing
else of Penstock.

    ledger = IdempotencyLedger(pool)
    await ledger.ensure_table()
    if await ledger.mark_processed("billing", event_id):
        ...  # this caller, and no other, handles it
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import asyncpg

from penstock_store.driver import DRIVER_ERRORS
from penstock_store.errors import StoreError

__all__ = ["IdempotencyLedger", "LedgerError", "LedgerUnavailable", "make_button_event_id"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}(\.[A-Za-z_][A-Za-z0-9_]{0,39})?")
_RETRY: Final = ("40P01", "40001")
_ATTEMPTS: Final = 3
_REMOVED_AT_ONCE: Final = 10_000  # rows that one statement of a clean-up deletes
_MOST_HOURS: Final = 8_760_000  # so long ago both Python and PostgreSQL can still reckon
_LOCK: Final = (1346719317, 1)  # of ensure_table: two CREATE … IF NOT EXISTS at once can collide


# In the schema where CREATE would make them, which may not be the one where the search path finds them.
_STANDS: Final = """
SELECT to_regclass(s || '.' || $2) IS NOT NULL AND to_regclass(s || '.' || $3) IS NOT NULL
FROM coalesce($1, quote_ident(current_schema())) AS s
"""


class LedgerError(StoreError):
    """An argument or the database refuses a call; the message says what to change."""


class LedgerUnavailable(LedgerError):
    """PostgreSQL is away or too slow. Try again; whether a mark was made is not known."""


def make_button_event_id(action_id: str, message_ts: str, user_id: str) -> str:
    """One user's press of one button of one message: the three joined by `:`."""
    return f"{action_id}:{message_ts}:{user_id}"


class IdempotencyLedger:
    """`database`: an asyncpg pool, or a connection, whose calls then queue behind each other.

    `timeout`: seconds for each call, waiting for a connection included; one that misses it is ended.
    `table`: its name, with a schema where it is not to be the first of the search path.
    """

    def __init__(self, database: Any, *, table: str = "processed_events", timeout: float = 10.0) -> None:
        if not _NAME.fullmatch(table):
            raise LedgerError(
                f"table must be a plain name of letters, digits and _, such as processed_events;"
                f" got {table!r}"
            )
        if timeout <= 0:
            raise LedgerError(f"timeout must be more than 0 seconds; got {timeout!r}")
        self._database = database
        self._quoted = ".".join(f'"{part}"' for part in table.split("."))
        schema, _, name = self._quoted.rpartition(".")
        self._schema, self._name = schema or None, name
        self._index = f'{name[:-1]}_processed_at"'
        self._timeout = timeout
        self._one_at_a_time = asyncio.Lock()

    async def ensure_table(self) -> None:
        """Make the table and its index where they are missing. Any number of callers may do so at once.

        A login may call it that cannot make them, where they are there.
        """
        # CREATE … IF NOT EXISTS asks for the right to make a table before it looks whether there is one.
        if (await self._run(_STANDS, (self._schema, self._name, self._index)))[0][0]:
            return
        await self._run(
            "SELECT pg_advisory_xact_lock($1, $2)",
            _LOCK,
            then=(
                f"""
                CREATE TABLE IF NOT EXISTS {self._quoted} (
                    team_id text NOT NULL, event_id text NOT NULL,
                    processed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                    PRIMARY KEY (team_id, event_id))
                """,
                f"CREATE INDEX IF NOT EXISTS {self._index} ON {self._quoted} (processed_at)",
            ),
        )

    async def is_processed(self, team_id: str, event_id: str) -> bool:
        """The event is marked. To claim it ask `mark_processed` alone: another may come between two calls."""
        rows = await self._run(
            f"SELECT 1 FROM {self._quoted} WHERE team_id = $1 AND event_id = $2", _key(team_id, event_id)
        )
        return bool(rows)

    async def mark_processed(self, team_id: str, event_id: str) -> bool:
        """True for exactly one of any number of callers, false for all others and ever after."""
        rows = await self._run(
            f"INSERT INTO {self._quoted} (team_id, event_id) VALUES ($1, $2)"
            " ON CONFLICT (team_id, event_id) DO NOTHING RETURNING 1",
            _key(team_id, event_id),
        )
        return bool(rows)

    async def cleanup_old_events(self, hours: float = 24) -> int:
        """Forget marks older than `hours`; how many they were. In pieces, so that it blocks nobody."""
        if not 0 <= hours <= _MOST_HOURS:
            raise LedgerError(f"hours must be from 0 to {_MOST_HOURS:,}, a thousand years; got {hours!r}")
        removed = 0
        while True:
            rows = await self._run(
                f"""
                DELETE FROM {self._quoted} WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM {self._quoted} WHERE processed_at < clock_timestamp() - $1::interval
                    LIMIT {_REMOVED_AT_ONCE} FOR UPDATE SKIP LOCKED))
                RETURNING 1
                """,
                (timedelta(hours=hours),),
            )
            removed += len(rows)
            if len(rows) < _REMOVED_AT_ONCE:
                return removed

    async def _run(self, text: str, values: Sequence[Any], then: Sequence[str] = ()) -> list[Any]:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._once(text, values, then)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in _RETRY:
                    raise _failure(error) from error
        try:
            return await self._once(text, values, then)
        except asyncpg.PostgresError as error:
            raise _failure(error) from error

    async def _once(self, text: str, values: Sequence[Any], then: Sequence[str]) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout), self._connection() as connection:
                try:
                    return await _carry_out(connection, text, values, then)
                except asyncio.CancelledError:
                    connection.terminate()  # a polite cancel waits for the server, without a bound
                    raise
        except TimeoutError as error:
            raise LedgerUnavailable(
                f"PostgreSQL did not answer the ledger within {self._timeout:g} s; its connection was"
                " ended. Try again, or raise timeout"
            ) from error
        except asyncpg.PostgresError:
            raise
        except DRIVER_ERRORS as error:
            raise LedgerUnavailable(f"The ledger cannot reach PostgreSQL: {error}. Try again") from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if hasattr(self._database, "acquire"):
            async with self._database.acquire() as connection:
                yield connection
        else:
            async with self._one_at_a_time:
                yield self._database


async def _carry_out(connection: Any, text: str, values: Sequence[Any], then: Sequence[str]) -> list[Any]:
    if not then:
        return list(await connection.fetch(text, *values))
    async with connection.transaction():
        await connection.execute(text, *values)
        for statement in then:
            await connection.execute(statement)
    return []


def _key(team_id: str, event_id: str) -> tuple[str, str]:
    for name, value in (("team_id", team_id), ("event_id", event_id)):
        if not isinstance(value, str) or not value or "\0" in value or len(value.encode()) > 1024:
            raise LedgerError(f"{name} must be text of 1 to 1,024 bytes without NUL; got {value!r:.60}")
    return team_id, event_id


def _failure(error: asyncpg.PostgresError) -> LedgerError:
    state = error.sqlstate or ""
    if state == "42P01":
        return LedgerError("The ledger's table does not exist. Call ensure_table() once at the start")
    kind = LedgerUnavailable if state[:2] in ("08", "40", "53", "55", "57", "58", "XX") else LedgerError
    return kind(f"PostgreSQL refuses the ledger's call: {str(error).splitlines()[0]} (SQLSTATE {state})")
