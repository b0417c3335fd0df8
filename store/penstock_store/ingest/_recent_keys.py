"""The keys that a session stored last: most repeats come soon after the first, as a producer's retries do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from penstock_store.appending import Key
from penstock_store.ingest.batch import Batch

__all__ = ["RecentKeys"]


_KEPT: Final = 24_000  # at least, and below twice as many and a batch: about 16 MB, mostly the batches' own


class RecentKeys:
    """Spares a look into the current partition, or a COPY that fails: what is found here is stored, what is
    not may be. Of one partition alone, since in the next one a key may come again once the window has passed.

    Belongs to one session, as another server may answer the next.
    """

    def __init__(self) -> None:
        self._leaf = ""
        self._newer: dict[Key, bytes] = {}
        self._older: dict[Key, bytes] = {}

    def known(self, leaf: str, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The content hash of each of `keys` that was stored into `leaf` of late."""
        if leaf != self._leaf:
            return {}
        return {key: kept[key] for kept in (self._older, self._newer) for key in kept.keys() & keys}

    def stored(self, leaf: str, batch: Batch, indexes: Sequence[int]) -> None:
        """Those records of the batch are committed in `leaf`."""
        if leaf != self._leaf:
            self._leaf, self._newer, self._older = leaf, {}, {}
        if len(indexes) == len(batch):
            self._newer.update(zip(batch.keys, batch.hashes, strict=True))
        else:
            self._newer.update((batch.keys[index], batch.hashes[index]) for index in indexes)
        if len(self._newer) >= _KEPT:
            self._newer, self._older = {}, self._newer
