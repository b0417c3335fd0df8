"""How long to wait before the next attempt: exponential, with full jitter above a floor."""

from random import Random

__all__ = ["Backoff"]


class Backoff:
    """Doubles from `first` to `most` seconds; `reset` after success. `random` is passed in, so a run can be
    repeated.
    """

    def __init__(self, random: Random, *, first: float = 0.1, most: float = 5.0) -> None:
        self._random = random
        self._first = first
        self._most = most
        self.attempts = 0

    def next(self) -> float:
        """Seconds to wait now: between half of the step and all of it, so that workers do not return in
        step.
        """
        step = min(self._most, self._first * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return step * (0.5 + self._random.random() / 2)

    def reset(self) -> None:
        """Start again from the first step."""
        self.attempts = 0
