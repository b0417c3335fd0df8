"""A circuit breaker: while a server is away calls fail at once, and one at a time looks whether it is back.

Pure but for the clock. One event loop; not thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

__all__ = ["CircuitBreaker", "CircuitState"]

_LONGEST: Final = 10.0  # seconds between two looks at a server that stays away


class CircuitState(StrEnum):
    """What happens to a call."""

    CLOSED = "closed"  # it goes to the server
    OPEN = "open"  # it fails at once
    HALF_OPEN = "half_open"  # one is on its way to find out; the others fail at once


class CircuitBreaker:
    """Opens after `failures` in a row; `pause` seconds later one call may try, twice as long after each that
    fails, up to 10 s. `seconds` is a clock that never goes back.

    Each call that `admits` let through is told to it: `answered`, `failed`, `failed_trial` or `abandoned`.
    """

    def __init__(self, *, failures: int, pause: float, seconds: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._first_pause = pause
        self._seconds = seconds
        self._failures = 0
        self._pause = pause
        self._until: float | None = None  # not None: not closed; the moment of the next look
        self._trial: object | None = None
        self.opened = 0
        """How often it opened; a look that fails does not count again."""
        self.cause = ""
        """What the latest failure said."""

    @property
    def state(self) -> CircuitState:
        """Now. `OPEN` also where the next call would be let through to look."""
        if self._until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self._trial is None else CircuitState.HALF_OPEN

    @property
    def retry_in(self) -> float:
        """Seconds until a call may look; 0 where it may now."""
        return 0.0 if self._until is None else max(0.0, self._until - self._seconds())

    def admits(self, call: object) -> bool:
        """Whether `call`, any object of its own, may go to the server."""
        if self._until is None:
            return True
        if self._trial is not None or self._seconds() < self._until:
            return False
        self._trial = call
        return True

    def answered(self) -> None:
        """The server answered some call, be it with a refusal: it is there."""
        self._failures, self._pause = 0, self._first_pause
        self._until = self._trial = None

    def failed(self, call: object, cause: str) -> None:
        """The server could not be reached."""
        self.cause = cause
        if self._until is None:
            self._failures += 1
            if self._failures >= self._most:
                self.opened += 1
                self._until = self._seconds() + self._pause
        else:
            self.failed_trial(call, cause)

    def failed_trial(self, call: object, cause: str) -> None:
        """The call did not get its answer, for a reason that says little unless it was the one that looks."""
        if self._trial is call:
            self._trial, self.cause = None, cause
            self._pause = min(2 * self._pause, max(_LONGEST, self._first_pause))
            self._until = self._seconds() + self._pause

    def abandoned(self, call: object) -> None:
        """The call ended without telling anything of the server: another one may look."""
        if self._trial is call:
            self._trial = None
