"""The transactions of table projections, on a connection of their own: position and writes, or neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog
from pydantic import JsonValue

from penstock_store.checkpoints import Checkpoint, state_json
from penstock_store.driver import DRIVER_ERRORS, LINK_ERRORS
from penstock_store.postgresql._checkpoints import FENCE, STEP
from penstock_store.postgresql._failures import WRITE, store_error
from penstock_store.postgresql.reader_settings import ReaderSettings
from penstock_store.read_errors import StoreUnavailable

__all__ = ["Tables"]

Work = Callable[[Any], Awaitable[None]]

_TRANSACTION: Final = 600.0  # seconds; a statement has its own, shorter deadline
_PASSING: Final = ("08", "40", "53", "55", "57P", "58")  # SQLSTATE: no event's fault
_EXISTS: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
_VERSION: Final = "UPDATE penstock.checkpoints SET state_version = $3 WHERE name = $1 AND epoch = $2"
_FORGET: Final = "DELETE FROM penstock.checkpoints WHERE name = $1 AND epoch = $2 RETURNING sequence"
# New tables begin at any place, also before the one where those stood that were given up.
_BEGIN: Final = """
UPDATE penstock.checkpoints SET sequence = $3, state = $4, saved_at = clock_timestamp()
WHERE name = $1 AND epoch = $2
RETURNING sequence
"""

_log = structlog.get_logger(__name__)


class Tables:
    """For one task at a time. Schema names come checked."""

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._connection: Any = None

    async def close(self) -> None:
        """End the connection. Safe to call again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def exists(self, schema: str) -> bool:
        """Whether the schema is there."""
        async with self._transaction() as connection:
            found: bool = await connection.fetchval(_EXISTS, schema)
            return found

    async def make(
        self,
        checkpoint: Checkpoint,
        schema: str,
        work: Work,
        readers: Iterable[str],
        *,
        sequence: int,
        state: JsonValue = None,
    ) -> None:
        """A new schema with what `work` makes in it, readable by `readers`; what stood there is gone.

        The checkpoint then stands at `sequence`, wherever it stood, and keeps `state`.
        """
        kept = checkpoint.kept
        text = None if state is None else state_json(checkpoint.name, state).decode()
        async with self._transaction() as connection:
            if await connection.fetchval(_BEGIN, kept.name, kept.epoch, sequence, text) is None:
                raise checkpoint.lost(None)
            await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
            await connection.execute(f'CREATE SCHEMA "{schema}"')
            await self._within(connection, schema, work)
            for role in readers:
                await connection.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"')
                await connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"')
        checkpoint.began(sequence, state)

    async def apply(
        self, checkpoint: Checkpoint, schema: str, work: Work, *, sequence: int, lease: float
    ) -> None:
        """`work` and the checkpoint's step to `sequence`, in one transaction. The fence comes first: who was
        superseded waits there for the owner's transaction, and writes nothing.

        Raises `CheckpointLost`, `StoreUnavailable` (it may have been done: ask the checkpoint), and what
        `work` or COMMIT raised, where nothing was done.
        """
        kept = checkpoint.kept
        async with self._transaction() as connection:
            if await connection.fetchval(STEP, kept.name, kept.epoch, sequence, lease) is None:
                if await checkpoint.stands_at(sequence):  # an earlier attempt, whose COMMIT took longer
                    return
                raise checkpoint.lost(None)
            await self._within(connection, schema, work)
        checkpoint.moved(sequence)

    async def swap(self, live: Checkpoint, shadow: Checkpoint, schema: str, built: str, version: int) -> None:
        """Put the schema `built` in the place of `schema`, between two statements of any reader.

        Raises `CheckpointLost` where either checkpoint has another owner: `built` may then be of another
        rebuild.
        """
        old = f"{schema}__old"
        async with self._transaction() as connection:
            kept = live.kept
            if await connection.fetchval(FENCE, kept.name, kept.epoch, kept.sequence, 30.0) is None:
                raise live.lost(None)
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            if await connection.fetchval(_FORGET, shadow.name, shadow.kept.epoch) is None:
                raise shadow.lost(None)
            await connection.execute(f'DROP SCHEMA IF EXISTS "{old}" CASCADE')
            if await connection.fetchval(_EXISTS, schema):
                await connection.execute(f'ALTER SCHEMA "{schema}" RENAME TO "{old}"')
            await connection.execute(f'ALTER SCHEMA "{built}" RENAME TO "{schema}"')
            await connection.execute(_VERSION, live.name, live.kept.epoch, version)
        try:
            async with self._transaction() as connection:  # apart: waits for those who read the old tables
                await connection.execute("SET LOCAL lock_timeout = '10s'")
                await connection.execute(f'DROP SCHEMA IF EXISTS "{old}" CASCADE')
        except StoreUnavailable as error:
            _log.warning("old_tables_stay", schema=old, until="the next rebuild", cause=str(error))

    async def _within(self, connection: Any, schema: str, work: Work) -> None:
        await connection.execute(f'SET LOCAL search_path TO "{schema}", public')
        await work(connection)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(_TRANSACTION):
                connection = await self._connected()
                transaction = connection.transaction()
                await transaction.start()
                try:
                    yield connection
                except Exception:
                    await self._roll_back(transaction)
                    raise
                await transaction.commit()
        except asyncio.CancelledError:
            await self.close()  # a polite end waits for the server, without a bound
            raise
        except Exception as error:
            away = self._connection is None or self._connection.is_closed()
            if (isinstance(error, LINK_ERRORS) and away) or _passes(error):
                await self.close()
                raise StoreUnavailable(str(store_error(error, self._settings.dsn, WRITE))) from error
            if isinstance(error, TimeoutError):
                await self.close()
            raise

    async def _roll_back(self, transaction: Any) -> None:
        try:
            async with asyncio.timeout(self._settings.close_timeout):
                await transaction.rollback()
        except DRIVER_ERRORS:  # the server rolls back what has no connection
            await self.close()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            self._connection = await asyncpg.connect(**self._settings.connection_options())
        return self._connection


def _passes(error: Exception) -> bool:
    code = getattr(error, "sqlstate", None)
    return isinstance(error, asyncpg.PostgresError) and isinstance(code, str) and code.startswith(_PASSING)
