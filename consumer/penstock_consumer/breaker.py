"""Notices when the records are hardly what is wrong."""

from collections import deque

from penstock_store.ingest import FEWEST_BAD

__all__ = ["DeadLetterBreaker"]


class DeadLetterBreaker:
    """Trips when more than `share` of the last `window` records, or of the last batch where that is larger,
    were bad, and at least 500 were.
    """

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._window = window
        self._seen: deque[tuple[int, int]] = deque()
        self.records = 0
        self.bad = 0

    def observe(self, records: int, bad: int) -> bool:
        """Take note of one more batch, or of more of the last one's records that turned out bad; whether the
        breaker trips.
        """
        if records or bad:
            self._seen.append((records, bad))
            self.records += records
            self.bad += bad
        while len(self._seen) > 1 and self.records - self._seen[0][0] >= self._window:
            old_records, old_bad = self._seen.popleft()
            self.records -= old_records
            self.bad -= old_bad
        return self._share < 1 and self.bad >= FEWEST_BAD and self.bad > self._share * self.records

    def take_back(self, records: int) -> None:
        """The newest `records` were not committed: they come again, and are to count once."""
        while self._seen and records > 0:
            came, bad = self._seen.pop()
            self.records -= came
            self.bad -= bad
            records -= came
