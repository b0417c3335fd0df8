"""The keys that a session stored last: most repeats come soon after the first, as a producer's retries do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from penstock_store.appending import Key
from penstock_store.ingest.batch import Batch
from penstock_store.ingest.model import PartitionRef

__all__ = ["RecentKeys"]


_KEPT: Final = 24_000  # of all partitions, at most twice as many: about 16 MB, mostly the batches' own


class RecentKeys:
    """Spares a look into the current partition, or a COPY that fails: what is found here is stored, what is
    not may be. Of one partition of events alone, since in the next one a key may come again once the window
    has passed; the last ones of each Kafka partition, as a client hands over tens of thousands of the others
    before it comes back to one.

    Belongs to one session, as another server may answer the next.
    """

    def __init__(self) -> None:
        self._leaf = ""
        self._newer: dict[PartitionRef, dict[Key, bytes]] = {}
        self._older: dict[PartitionRef, dict[Key, bytes]] = {}

    def known(self, leaf: str, batch: Batch) -> dict[Key, bytes]:
        """The content hash of each key of the batch that was stored into `leaf` of late, from the same
        Kafka partition.
        """
        found: dict[Key, bytes] = {}
        if leaf == self._leaf:
            for ref, first, stop in _runs(batch):
                keys = batch.keys[first:stop]
                for kept in (self._older.get(ref, {}), self._newer.get(ref, {})):
                    found.update((key, kept[key]) for key in kept.keys() & keys)
        return found

    def stored(self, leaf: str, batch: Batch, indexes: Sequence[int]) -> None:
        """Those records of the batch are committed in `leaf`."""
        if leaf != self._leaf:
            self._leaf, self._newer, self._older = leaf, {}, {}
        chosen = range(len(batch)) if len(indexes) == len(batch) else set(indexes)
        for ref, first, stop in _runs(batch):
            newer = self._newer.setdefault(ref, {})
            most = _KEPT // len(self._newer) or 1
            newer.update(
                (batch.keys[index], batch.hashes[index])
                for index in range(max(first, stop - most), stop)
                if index in chosen
            )
            if len(newer) >= most:
                self._newer[ref], self._older[ref] = {}, newer


def _runs(batch: Batch) -> Iterator[tuple[PartitionRef, int, int]]:
    """Neighbours of one Kafka partition: which, from which index, up to which."""
    first = 0
    for part, offsets in batch.runs:
        yield batch.parts[part].claim.ref, first, first + len(offsets)
        first += len(offsets)
