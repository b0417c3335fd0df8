"""A batch: records of several partitions as parallel arrays, ready to be written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock_schemas.fields import EventFields
from penstock_schemas.rows import Row, row_of
from penstock_store.appending import Key
from penstock_store.ingest.model import Claim

__all__ = ["Batch", "BatchPart"]


@dataclass(slots=True, kw_only=True)
class BatchPart:
    """The records of one partition: offsets from `first_offset` up to, but not including, `next_offset`."""

    claim: Claim
    expected: int | None
    """The stored position that the fence expects; not the first offset, as compaction leaves gaps."""
    first_offset: int
    next_offset: int
    dead_lettered: int = 0
    """Records of this part that the dead-letter topic has already acknowledged."""
    tombstones: int = 0
    leader_epoch: int | None = None
    """Kafka's, of the record before `next_offset`; None where it is not known."""

    @property
    def start(self) -> int:
        """Where the ingested range begins: at the stored position, so that ranges join over gaps."""
        return self.first_offset if self.expected is None else self.expected


class Batch:
    """Filled by the consumer, in offset order within each part; the order of `add` is the order of
    `sequence`.
    """

    __slots__ = ("event_ids", "hashes", "keys", "nbytes", "parts", "rows", "runs")

    def __init__(self, parts: Sequence[BatchPart] = ()) -> None:
        self.parts: list[BatchPart] = list(parts)
        self.keys: list[Key] = []
        """(tenant, idempotency key) of each record."""
        self.hashes: list[bytes] = []
        self.event_ids: list[bytes] = []
        self.rows: list[bytes] = []
        self.runs: list[tuple[int, Sequence[int]]] = []
        """Where the records come from, in their order: (index into parts, offsets)."""
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def origins(self) -> list[tuple[int, int]]:
        """(index into parts, offset) of each record. Made when asked for, which is seldom."""
        return [(part, offset) for part, offsets in self.runs for offset in offsets]

    def add(self, part_index: int, offset: int, fields: EventFields) -> None:
        """Append one event."""
        self.extend(part_index, [offset], [row_of(fields)])

    def extend(self, part_index: int, offsets: Sequence[int], rows: Sequence[Row]) -> None:
        """Append events of one part, by their rows. CPU-bound; may run in another thread than the writer's,
        for another batch.
        """
        if not rows:
            return
        keys, hashes, event_ids, cells = zip(*rows, strict=True)
        self.keys += keys
        self.hashes += hashes
        self.event_ids += event_ids
        self.rows += cells
        self.runs.append((part_index, offsets))
        self.nbytes += sum(map(len, cells))
