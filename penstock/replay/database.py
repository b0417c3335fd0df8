"""One short-lived connection to PostgreSQL, for what is only looked at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from penstock.errors import ServerRefusedError, ServerUnavailableError
from penstock.redaction import redact
from penstock_store.driver import LINK_ERRORS

__all__ = ["connected"]

_PRIVILEGES = "Run `penstock migrate`, and grant the login the role of its kind (`penstock doctor` names it)."
_REFUSED = {
    asyncpg.InvalidAuthorizationSpecificationError: (
        "Correct user or password (in the URL, PGPASSWORD or ~/.pgpass), or the server's pg_hba.conf."
    ),
    asyncpg.InvalidCatalogNameError: "Create the database, or correct its name in the URL.",
    asyncpg.InsufficientPrivilegeError: _PRIVILEGES,
    asyncpg.InvalidSchemaNameError: _PRIVILEGES,
    asyncpg.UndefinedTableError: _PRIVILEGES,
}


@asynccontextmanager
async def connected(dsn: str, seconds: float) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection whose every call ends within `seconds`. Raises `ServerUnavailableError`, and
    `ServerRefusedError` for login, database and privileges; asyncpg's other errors as they are.
    """
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            dsn, timeout=seconds, command_timeout=seconds, server_settings={"timezone": "UTC"}
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=seconds)
    except tuple(_REFUSED) as error:
        advice = next(advice for kind, advice in _REFUSED.items() if isinstance(error, kind))
        raise ServerRefusedError(f"PostgreSQL at {redact(dsn)} refuses: {error}. {advice}") from error
    except (*LINK_ERRORS, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
        raise ServerUnavailableError(
            f"PostgreSQL at {redact(dsn)} does not answer within {seconds:g} s "
            f"({error or type(error).__name__}).",
            "Start it (`penstock up`) or correct its URL.",
        ) from error
