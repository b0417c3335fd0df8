"""What can go wrong while reading. `ReadError` is below `StoreError`; each class says what to do about it."""

from __future__ import annotations

from typing import Final

from penstock_store.errors import StoreError

__all__ = ["CLOSED", "CircuitOpen", "InvalidQuery", "ReadError", "StoreRefused", "StoreUnavailable"]

CLOSED: Final = "This event store was closed. Make another one to go on."


class ReadError(StoreError):
    """Root of what readers raise. `sqlstate`: PostgreSQL's own code, where it answered."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class InvalidQuery(ReadError, ValueError):
    """An option is not what it must be. The message names it and says what to write; nothing was sent."""


class StoreUnavailable(ReadError):
    """The store is away, busy, closed, or did not answer before a deadline. The same call may pass later."""


class CircuitOpen(StoreUnavailable):
    """The server was away a moment ago, so the call was not sent. It is asked again soon; try then."""


class StoreRefused(ReadError):
    """PostgreSQL answered and refuses: no such database, wrong login, missing migration or privilege. Mend
    that first.
    """
