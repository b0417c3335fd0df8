"""The registry's tables in PostgreSQL. Every call has a deadline; PostgreSQL's faults become a 503 to retry.

Subjects are append-only: a version, once given, keeps its number and its schema.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import structlog

from penstock.registry.faults import RegistryFault, store_away
from penstock.registry.options import RegistryOptions
from penstock.registry.schema_text import SchemaText
from penstock_schemas.compatibility import Compatibility
from penstock_store.driver import DRIVER_ERRORS

__all__ = ["DEFAULT_LEVEL", "GLOBAL", "Storage", "Version"]

DEFAULT_LEVEL = Compatibility.BACKWARD  # Confluent's
GLOBAL = ""  # the row of registry_config that holds for every subject; no subject is empty

# First key of the two-key advisory lock that a registration holds on its subject: "reg" in ASCII. PostgreSQL
# keeps two-key locks apart from the single-key ones.
_LOCK_CLASS = 0x726567

_SELECT = """
    SELECT v.subject, v.version, v.schema_id, s.schema
      FROM penstock.registry_versions v JOIN penstock.registry_schemas s ON s.id = v.schema_id
     WHERE v.subject = $1"""
_LATEST = f"{_SELECT} ORDER BY v.version DESC LIMIT 1"

_log = structlog.get_logger(__name__)


class Version(NamedTuple):
    """One schema under one subject."""

    subject: str
    version: int
    schema_id: int
    text: str


class Storage:
    """What the endpoint asks of PostgreSQL. `open()` connects to nothing: the endpoint may start first."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Make the pool; its connections are made by the first requests."""
        deadline = self._options.request_seconds
        self._pool = await asyncpg.create_pool(
            self._options.database_url.get_secret_value(),
            min_size=0,
            max_size=self._options.max_connections,
            timeout=deadline,
            command_timeout=deadline,
            statement_cache_size=0,  # so that PgBouncer may stand in between
            server_settings={"application_name": "penstock-registry"},
        )

    async def close(self) -> None:
        """Close the connections; those still busy after the grace are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._options.stop_seconds):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def count(self) -> int:
        """How many schemas there are; fails as any request would, so it serves readiness too."""
        return int(await self._value("SELECT count(*) FROM penstock.registry_schemas"))

    async def text(self, schema_id: int) -> str | None:
        """The schema with this id."""
        found = await self._value("SELECT schema FROM penstock.registry_schemas WHERE id = $1", schema_id)
        return None if found is None else str(found)

    async def uses(self, schema_id: int) -> list[tuple[str, int]]:
        """Subjects and versions of a schema, ordered."""
        query = "SELECT subject, version FROM penstock.registry_versions WHERE schema_id = $1 ORDER BY 1, 2"
        return [(row["subject"], row["version"]) for row in await self._rows(query, schema_id)]

    async def subjects(self, prefix: str) -> list[str]:
        """Every subject that starts with `prefix`, ordered."""
        if "\0" in prefix:  # PostgreSQL's text cannot hold it
            return []
        query = "SELECT DISTINCT subject FROM penstock.registry_versions WHERE subject ^@ $1 ORDER BY 1"
        return [row["subject"] for row in await self._rows(query, prefix)]

    async def versions(self, subject: str) -> list[int]:
        """Version numbers, ascending; empty for an unknown subject."""
        query = "SELECT version FROM penstock.registry_versions WHERE subject = $1 ORDER BY version"
        return [row["version"] for row in await self._rows(query, subject)]

    async def version(self, subject: str, number: int | None) -> Version | None:
        """One version, or the latest where `number` is None."""
        rows = (
            await self._rows(_LATEST, subject)
            if number is None
            else await self._rows(f"{_SELECT} AND v.version = $2", subject, number)
        )
        return Version(*rows[0]) if rows else None

    async def find(self, subject: str, schema: SchemaText) -> Version | None:
        """The version that holds `schema`."""
        async with self._connection() as connection:
            return await _find(connection, subject, schema)

    async def texts(self, subject: str) -> list[str]:
        """The schemas of every version, from the first."""
        async with self._connection() as connection:
            return await _texts(connection, subject)

    async def level(self, subject: str) -> Compatibility | None:
        """The level set for exactly this subject, or for `GLOBAL`."""
        query = "SELECT compatibility FROM penstock.registry_config WHERE subject = $1"
        found = await self._value(query, subject)
        return None if found is None else Compatibility(found)

    async def effective_level(self, subject: str) -> Compatibility:
        """The subject's level, else the global one, else the default."""
        async with self._connection() as connection:
            return await _effective_level(connection, subject)

    async def set_level(self, subject: str, level: Compatibility) -> None:
        """Set the level of a subject or of `GLOBAL`."""
        await self._value(
            "INSERT INTO penstock.registry_config (subject, compatibility) VALUES ($1, $2) "
            "ON CONFLICT (subject) DO UPDATE SET compatibility = excluded.compatibility",
            subject,
            level.value,
        )

    async def register(
        self,
        subject: str,
        schema: SchemaText,
        judge: Callable[[Compatibility, Sequence[str]], Awaitable[None]],
    ) -> int:
        """The schema's id, after making it a version of `subject` where it is none yet.

        `judge` is given the level and the texts of all versions, and raises where they do not go together.
        Registrations of one subject go one after the other: each is judged against all before it, and version
        numbers have no gaps.
        """
        async with self._connection() as connection, connection.transaction(isolation="read_committed"):
            if found := await _find(connection, subject, schema):
                return found.schema_id
            await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK_CLASS, subject)
            if found := await _find(connection, subject, schema):
                return found.schema_id
            level = await _effective_level(connection, subject)
            await judge(level, await _texts(connection, subject))
            schema_id = await _keep(connection, schema)
            await connection.execute(
                "INSERT INTO penstock.registry_versions (subject, version, schema_id) "
                "SELECT $1, coalesce(max(version), 0) + 1, $2 "
                "  FROM penstock.registry_versions WHERE subject = $1",
                subject,
                schema_id,
            )
            return schema_id

    async def _rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        async with self._connection() as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *values)
            return found

    async def _value(self, query: str, *values: object) -> Any:
        async with self._connection() as connection:
            return await connection.fetchval(query, *values)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:  # asyncpg's proxy does not say that it is a Connection
        if self._pool is None:
            raise store_away("The registry is stopping. Try again.")
        deadline = self._options.request_seconds
        try:
            async with asyncio.timeout(deadline), self._pool.acquire(timeout=deadline) as connection:
                yield connection
        except RegistryFault:
            raise
        except DRIVER_ERRORS as error:
            _log.warning(
                "registry_database_error",
                error=type(error).__name__,
                sqlstate=getattr(error, "sqlstate", None),
            )
            raise store_away(_advice(error)) from error


async def _find(connection: Any, subject: str, schema: SchemaText) -> Version | None:
    row = await connection.fetchrow(f"{_SELECT} AND s.fingerprint = $2", subject, schema.fingerprint)
    return None if row is None else Version(*row)


async def _texts(connection: Any, subject: str) -> list[str]:
    return [row["schema"] for row in await connection.fetch(f"{_SELECT} ORDER BY v.version", subject)]


async def _effective_level(connection: Any, subject: str) -> Compatibility:
    # The global row is '', which sorts before every subject.
    query = (
        "SELECT compatibility FROM penstock.registry_config WHERE subject IN ($1, '') ORDER BY subject DESC"
    )
    found = await connection.fetchval(query, subject)
    return DEFAULT_LEVEL if found is None else Compatibility(found)


async def _keep(connection: Any, schema: SchemaText) -> int:
    """The id of a schema, new or not. ON CONFLICT waits for another subject that inserts the same one."""
    known = "SELECT id FROM penstock.registry_schemas WHERE fingerprint = $1"
    added = (
        "INSERT INTO penstock.registry_schemas (schema, fingerprint) VALUES ($1, $2) "
        "ON CONFLICT (fingerprint) DO NOTHING RETURNING id"
    )
    found = await connection.fetchval(
        known, schema.fingerprint
    )  # a conflict would use up a number of the sequence
    found = found or await connection.fetchval(added, schema.text, schema.fingerprint)
    return int(found or await connection.fetchval(known, schema.fingerprint))


def _advice(error: Exception) -> str:
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate in ("42P01", "3F000", "42703"):
        return (
            "The registry's tables are missing or of another version. Run `penstock migrate` on its database."
        )
    if sqlstate == "42501" or sqlstate.startswith("28"):
        return (
            "PostgreSQL refuses the registry's login: see PENSTOCK_REGISTRY_DATABASE_URL and its privileges."
        )
    return "PostgreSQL does not answer the registry. Try again; `penstock status` tells whether it runs."
