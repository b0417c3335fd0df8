"""Alembic inside the package. Every function blocks and opens one connection of its own.

From a coroutine call them by `asyncio.to_thread`. The login must be allowed to create a schema in the
database, and roles unless they exist. Roles belong to the whole cluster: a downgrade leaves them.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from threading import Lock
from typing import TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from penstock_store.driver import DRIVER_ERRORS, SESSION
from penstock_store.dsn import normalise_dsn, redact_dsn
from penstock_store.errors import MigrationError
from penstock_store.leaf_indexes import chosen_indexes
from penstock_store.schema import SCHEMA

__all__ = ["check", "current", "downgrade", "head", "indexes", "offline_sql", "set_indexes", "upgrade"]

_Result = TypeVar("_Result")
# Alembic keeps the present context in module globals.
_ONE_AT_A_TIME = Lock()
_CONNECT_SECONDS = 10.0
_INDEXES = "SELECT leaf_indexes FROM penstock.settings"
_SET_INDEXES = "UPDATE penstock.settings SET leaf_indexes = :wanted"
# A migration must not queue for ever behind a long read, with every writer waiting behind it.
_SETTINGS = SESSION | {"application_name": "penstock-migrate", "lock_timeout": "10s"}


def upgrade(dsn: str, revision: str = "head") -> None:
    """Move the schema up to a revision. Raises MigrationError."""
    _run(dsn, lambda connection: command.upgrade(_config(connection), revision))


def downgrade(dsn: str, revision: str) -> None:
    """Move the schema down; `base` removes all of it, with all events. Raises MigrationError."""
    _run(dsn, lambda connection: command.downgrade(_config(connection), revision))


def current(dsn: str) -> str | None:
    """The revision that the database is at, None where it has none. Raises MigrationError."""
    return _run(dsn, _current)


def head() -> str:
    """The newest revision that this version of the package knows."""
    found = ScriptDirectory.from_config(_config(None)).get_current_head()
    if found is None:
        raise MigrationError(
            "the package holds no migrations: it was not installed whole; install penstock-store again"
        )
    return found


def check(dsn: str) -> None:
    """Raises MigrationError unless the database is at the head and equals the declared tables."""
    _run(dsn, _check)


def offline_sql(revision: str = "head") -> str:
    """The statements of an upgrade from nothing as one script, for those who apply SQL by other means."""
    out = io.StringIO()
    config = _config(None)
    config.output_buffer = out
    with _ONE_AT_A_TIME:
        command.upgrade(config, revision, sql=True)
    return out.getvalue()


def indexes(dsn: str) -> tuple[str, ...]:
    """The secondary indexes of partitions to come: `full`, `lean` or single ones. Raises MigrationError."""
    return _run(dsn, lambda connection: tuple(connection.execute(text(_INDEXES)).scalar_one()))


def set_indexes(dsn: str, wanted: Sequence[str]) -> None:
    """`full` (all), `lean` (none) or a list of single ones, for partitions made from now on.

    Raises MigrationError.
    """
    try:
        chosen = chosen_indexes(wanted)
    except ValueError as error:
        raise MigrationError(str(error)) from error
    _run(dsn, lambda connection: connection.execute(text(_SET_INDEXES), {"wanted": list(chosen)}))


def _config(connection: Connection | None) -> Config:
    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    config.set_main_option("script_location", str(files(__package__)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    if "schema_version" not in inspect(connection).get_table_names(schema=SCHEMA):
        return None
    options = {"version_table": "schema_version", "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _check(connection: Connection) -> None:
    found = _current(connection)
    if found != head():
        raise MigrationError(
            f"the database is at revision {found or 'none'}, this version needs {head()}. "
            "Run `penstock migrate`"
        )
    command.check(_config(connection))


def _run(dsn: str, step: Callable[[Connection], _Result]) -> _Result:
    # A thread of its own: works whether or not the caller's thread runs an event loop.
    with _ONE_AT_A_TIME, ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, _connected(normalise_dsn(dsn), step)).result()


async def _connected(dsn: str, step: Callable[[Connection], _Result]) -> _Result:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings=_SETTINGS)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(step)
    except CommandError as error:
        raise MigrationError(f"migrating {redact_dsn(dsn)} failed: {error}") from error
    except DBAPIError as error:
        raise MigrationError(
            f"migrating {redact_dsn(dsn)} failed and changed nothing: {_reason(error)}"
        ) from error
    except DRIVER_ERRORS as error:
        raise MigrationError(
            f"no connection to {redact_dsn(dsn)}: {error or type(error).__name__}. Is PostgreSQL running, "
            "are user and database right?"
        ) from error
    finally:
        await engine.dispose()


def _reason(error: DBAPIError) -> str:
    cause = getattr(error.orig, "__cause__", None)
    if isinstance(cause, asyncpg.PostgresError):
        hint = getattr(cause, "hint", None)
        return f"{str(cause).splitlines()[0]} ({cause.sqlstate})" + (f". {hint}" if hint else "")
    return str(error.orig)
