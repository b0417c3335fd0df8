"""Exceptions of asyncpg and the network as the errors of the store, by SQLSTATE class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from penstock_store.driver import DRIVER_ERRORS
from penstock_store.dsn import redact_dsn
from penstock_store.read_errors import InvalidQuery, ReadError, StoreRefused, StoreUnavailable

__all__ = ["READ", "WRITE", "LostConnection", "Unreachable", "Use", "store_error"]


# 08 connection, 25 transaction state (a standby's conflict ends as 40), 40 serialisation, 53 resources, 57
# operator intervention, 58 system, XX internal: all may pass. 28 login, 3D database, 42 schema and
# privilege: none will.
_AWAY: Final = ("08", "57P")
_BUSY: Final = ("25", "40", "53", "55", "57", "58", "XX")
_REFUSED: Final = ("28", "3D", "3F", "42", "0A")


@dataclass(frozen=True, slots=True)
class Use:
    """What connections are for, in the words of their errors."""

    verb: str
    role: str
    slow: str  # what to do where the server does not answer in time
    in_doubt: str = ""  # said where a statement was sent and nothing came back


READ: Final = Use("read", "penstock_reader", "Narrow the query (a filter, a smaller limit)")
WRITE: Final = Use(
    "write",
    "penstock_writer",
    "Write less at once",
    " Whether it was stored is not known: call again with the same events, or the same state; that stores"
    " nothing twice.",
)


class Unreachable(StoreUnavailable):
    """The server could not be talked to; the circuit breaker counts it. Internal."""


class LostConnection(Unreachable):
    """The connection ended before the answer; nothing is wrong with the call. Internal: the pool repeats
    what may be repeated.
    """


def store_error(error: BaseException, dsn: str, use: Use = READ) -> ReadError:
    """What `error` means for the caller; the message holds no secret."""
    where = redact_dsn(dsn)
    code = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and isinstance(code, str):
        return _by_sqlstate(error, code, where, use)
    if isinstance(error, DRIVER_ERRORS):
        return LostConnection(
            f"PostgreSQL at {where} cannot be reached ({type(error).__name__}: {error})."
            " Is it started, and the address right?"
        )
    raise error


def _by_sqlstate(error: asyncpg.PostgresError, code: str, where: str, use: Use) -> ReadError:
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
        return InvalidQuery(f"PostgreSQL cannot take a value of the {use.verb}: {said}.", sqlstate=code)
    if code.startswith("28"):
        return StoreRefused(
            f"PostgreSQL at {where} does not let the login in: {said}. Correct user or password (in the URL,"
            " PGPASSWORD or ~/.pgpass), or the server's pg_hba.conf.",
            sqlstate=code,
        )
    if code.startswith(_REFUSED):
        advice = f"Run `penstock migrate`, and grant the login the role {use.role}."
        return StoreRefused(f"PostgreSQL at {where} refuses the {use.verb}: {said}. {advice}", sqlstate=code)
    return ReadError(f"PostgreSQL at {where} failed a {use.verb}: {said}.", sqlstate=code)
