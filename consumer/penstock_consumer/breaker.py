"""Notices when the records are hardly what is wrong."""

from collections import deque
from collections.abc import Iterable

from penstock_consumer.batching import PendingBatch
from penstock_consumer.errors import PoisonFlood
from penstock_store.ingest import FEWEST_BAD, PartitionRef

__all__ = ["DeadLetterBreaker"]


class DeadLetterBreaker:
    """Trips when more than `share` of the last `window` records, or of the last batch where that is larger,
    were bad, and at least 500 were. A record counts once, however often it is read: it comes again after a
    lost partition or a lost fence, and perhaps never where its batch was committed all the same.
    """

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._window = window
        self._seen: deque[tuple[int, int]] = deque()
        self._judged: dict[PartitionRef, int] = {}
        """Records below these offsets were counted."""
        self._refused: set[tuple[PartitionRef, int]] = set()
        """Counted as refused, and not known to be committed."""
        self.records = 0
        self.bad = 0

    def begin(self, batch: PendingBatch) -> None:
        """A batch goes to the writer, with those that could not be decoded. Raises `PoisonFlood`."""
        fresh = batch.count_from(self._judged)
        for lane, part in zip(batch.lanes, batch.rows.parts, strict=True):
            ref = lane.claim.ref
            self._judged[ref] = max(self._judged.get(ref, 0), part.next_offset)
            if self._refused:
                self._refused = {(of, at) for of, at in self._refused if of != ref or at >= part.first_offset}
        self._observe(*fresh)

    def refused(self, places: Iterable[tuple[PartitionRef, int]]) -> None:
        """These records of the batch, by offset, PostgreSQL does not take. Raises `PoisonFlood`."""
        fresh = set(places) - self._refused
        self._refused |= fresh
        self._observe(0, len(fresh))

    def _observe(self, records: int, bad: int) -> None:
        if records or bad:
            self._seen.append((records, bad))
            self.records += records
            self.bad += bad
        while len(self._seen) > 1 and self.records - self._seen[0][0] >= self._window:
            old_records, old_bad = self._seen.popleft()
            self.records -= old_records
            self.bad -= old_bad
        if self._share < 1 and self.bad >= FEWEST_BAD and self.bad > self._share * self.records:
            raise PoisonFlood(
                f"{self.bad} of the last {self.records} records could not be decoded, or "
                "were refused by PostgreSQL; the worker stops rather than move the topic into the "
                "dead-letter topic. Find out what changed (producer, schema registry, constraints on "
                "penstock.events); `--dead-letter-share 1` (in code dead_letter_share=1) lets "
                "them through all the same, but no batch of which PostgreSQL refuses most rows"
            )
