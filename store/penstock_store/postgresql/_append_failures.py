"""What an error of PostgreSQL means for a write that may be repeated."""

from __future__ import annotations

from typing import Final

from penstock_store.read_errors import ReadError, StoreRefused, StoreUnavailable

__all__ = ["is_transient", "write_error"]

# 23505: another append of the same key or id committed meanwhile, the next look finds it; 40: deadlock or
# serialisation; 42P01: a partition that was looked at was dropped a moment ago.
_AGAIN: Final = ("23505", "40001", "40P01", "42P01")


def is_transient(error: ReadError) -> bool:
    """The same call may pass at once. (A lost connection has been tried again by the pool.)"""
    return error.sqlstate in _AGAIN


def write_error(error: ReadError) -> ReadError:
    """The same error in the words of a write."""
    cause = f"{error} (met by a write)"
    if isinstance(error, StoreRefused):
        return StoreRefused(
            f"{cause} A login that appends needs the role penstock_writer.", sqlstate=error.sqlstate
        )
    if isinstance(error, StoreUnavailable) or is_transient(error):
        return StoreUnavailable(
            f"{cause} Whether it was stored is not known: call again with the same events, their keys make"
            " that safe.",
            sqlstate=error.sqlstate,
        )
    return error
