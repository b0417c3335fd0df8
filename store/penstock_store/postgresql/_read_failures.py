"""Exceptions of asyncpg and the network as the errors of the store, by SQLSTATE class."""

from __future__ import annotations

from typing import Final

import asyncpg

from penstock_store.driver import DRIVER_ERRORS
from penstock_store.dsn import redact_dsn
from penstock_store.read_errors import InvalidQuery, ReadError, StoreRefused, StoreUnavailable

__all__ = ["LostConnection", "Unreachable", "read_error"]


# 08 connection, 25 transaction state (a standby's conflict ends as 40), 40 serialisation, 53 resources, 57
# operator intervention, 58 system, XX internal: all may pass. 28 login, 3D database, 42 schema and
# privilege: none will.
_AWAY: Final = ("08", "57P")
_BUSY: Final = ("25", "40", "53", "55", "57", "58", "XX")
_REFUSED: Final = ("28", "3D", "3F", "42", "0A")


class Unreachable(StoreUnavailable):
    """The server could not be talked to; the circuit breaker counts it. Internal."""


class LostConnection(Unreachable):
    """The connection ended before the answer; nothing is wrong with the read. Internal: fetch repeats it."""


def read_error(error: BaseException, dsn: str) -> ReadError:
    """What `error` means for a reader; the message holds no secret."""
    where = redact_dsn(dsn)
    code = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and isinstance(code, str):
        return _by_sqlstate(error, code, where)
    if isinstance(error, DRIVER_ERRORS):
        return LostConnection(
            f"PostgreSQL at {where} cannot be reached ({type(error).__name__}: {error})."
            " Is it started, and the address right?"
        )
    raise error


def _by_sqlstate(error: asyncpg.PostgresError, code: str, where: str) -> ReadError:
    said = f"{error} (SQLSTATE {code})"
    if code.startswith(_AWAY):
        return LostConnection(
            f"PostgreSQL at {where} ended the connection: {said}. Try again in a moment.", sqlstate=code
        )
    if code.startswith(_BUSY):
        return StoreUnavailable(
            f"PostgreSQL at {where} could not answer now: {said}. Try again in a moment.", sqlstate=code
        )
    if code.startswith("22"):
        return InvalidQuery(f"PostgreSQL cannot take a value of the query: {said}.", sqlstate=code)
    if code.startswith(_REFUSED):
        advice = "Run `penstock migrate`, and grant the login the role penstock_reader."
        return StoreRefused(f"PostgreSQL at {where} refuses the read: {said}. {advice}", sqlstate=code)
    return ReadError(f"PostgreSQL at {where} failed a read: {said}.", sqlstate=code)
