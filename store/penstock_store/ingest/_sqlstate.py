"""Whose fault an error of PostgreSQL is, by SQLSTATE."""

from __future__ import annotations

from typing import Final

import asyncpg

from penstock_store.errors import SinkBroken, SinkError, SinkUnavailable

__all__ = ["is_retryable", "is_row_fault", "sink_error", "violated_index"]

# 42P01: a partition to be probed was dropped a moment ago; if it is more than that, the retry meets it again.
_RETRY: Final = frozenset({"40P01", "40001", "42P01"})
# 22 data exception and 23 integrity violation, with 54000: a value too large for an index.
_ROW_CLASSES: Final = ("22", "23")
# 22P04: the stream itself is malformed.
_NOT_THE_ROW: Final = frozenset({"22P04"})
# Features, transactions in a wrong state, catalogues, logins, syntax and privilege: every batch would fail.
# 22 and 23 come here only where no row of the COPY is at fault, as from the books' own constraints: the same
# batch would fail for ever.
_BROKEN_CLASSES: Final = ("0A", "22", "23", "28", "3D", "3F", "42", "P0", "PN")


def is_retryable(error: BaseException) -> bool:
    """Deadlock, serialisation failure, vanished partition, or a plan that a migration under way made invalid
    (which asyncpg forgets as it reports it): the same transaction may pass when run again.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _RETRY


def is_row_fault(error: asyncpg.PostgresError) -> bool:
    """Some row of the COPY can never be stored. Unique violations of the store's own indexes are not
    meant.
    """
    state = error.sqlstate or ""
    if state == "54000":
        return True
    if state == "23514":  # without a name: outside of its partition; with that one: the partition is closed
        return error.constraint_name not in (None, f"{error.table_name}_bounds")
    return state[:2] in _ROW_CLASSES and state not in _NOT_THE_ROW


def violated_index(error: asyncpg.UniqueViolationError, leaf: str) -> str | None:
    """`key`, `event_id` or `sequence`; None where the index is not the store's."""
    name = error.constraint_name or ""
    return name.removeprefix(f"{leaf}_") if name.startswith(f"{leaf}_") else None


def sink_error(error: BaseException, doing: str) -> SinkError:
    """The sink's error for one of DRIVER_ERRORS. Never quotes DETAIL, which holds values of rows."""
    state = error.sqlstate if isinstance(error, asyncpg.PostgresError) else None
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    moved = isinstance(error, asyncpg.InvalidCachedStatementError)
    if state is None or state[:2] not in _BROKEN_CLASSES or moved:
        return SinkUnavailable(
            f"PostgreSQL failed {doing}: {text}. Nothing was committed; retry", sqlstate=state
        )
    return SinkBroken(
        f"PostgreSQL refuses {doing}: {text} ({state}). Check the migrations (`penstock migrate`), "
        "the login and its membership of penstock_writer",
        sqlstate=state,
    )
