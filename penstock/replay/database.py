"""One short-lived connection to PostgreSQL, for what is only looked at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from penstock.errors import ServerUnavailableError
from penstock.redaction import redact
from penstock_store.driver import LINK_ERRORS

__all__ = ["connected"]


@asynccontextmanager
async def connected(dsn: str, seconds: float) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection whose every call ends within `seconds`. Raises `ServerUnavailableError`; asyncpg's errors
    where PostgreSQL refuses.
    """
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            dsn, timeout=seconds, command_timeout=seconds, server_settings={"timezone": "UTC"}
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=seconds)
    except (*LINK_ERRORS, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
        raise ServerUnavailableError(
            f"PostgreSQL at {redact(dsn)} does not answer within {seconds:g} s "
            f"({error or type(error).__name__}).",
            "Start it (`penstock up`) or correct its URL.",
        ) from error
