"""Which records of a batch are stored and which are not: pure, and the same as inserting them one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock_store.appending import Key
from penstock_store.ingest.batch import Batch
from penstock_store.ingest.model import Outcome, Rejection

__all__ = ["Decision", "Fault", "Known", "counts", "decide"]


class Fault(NamedTuple):
    """Why PostgreSQL refuses a row."""

    message: str
    sqlstate: str


@dataclass(slots=True)
class Known:
    """What is learned from the database while a batch is written."""

    keys: dict[Key, bytes] = field(default_factory=dict)
    """Content hash of events that are stored, by (tenant, key)."""
    event_ids: set[bytes] = field(default_factory=set)
    """Ids that are taken in the current partition."""
    faults: dict[int, Fault] = field(default_factory=dict)
    """Rows that PostgreSQL refuses, by index."""

    def __len__(self) -> int:
        return len(self.keys) + len(self.event_ids) + len(self.faults)


class Decision(NamedTuple):
    """`store`: indexes to copy, ascending. The rest is duplicates (by part) and rejections."""

    store: Sequence[int]
    duplicates: Sequence[int]
    rejections: Sequence[Rejection]


def decide(batch: Batch, known: Known) -> Decision:
    """Take the records in order: the first of a key wins, also inside the batch."""
    size = len(batch)
    if not len(known) and len(set(batch.keys)) == size and len(set(batch.event_ids)) == size:
        return Decision(range(size), (), ())
    hashes = dict(known.keys)
    taken = set(known.event_ids)
    origins = batch.origins
    store: list[int] = []
    duplicates: list[int] = []
    rejections: list[Rejection] = []
    for index, (key, content, event_id) in enumerate(
        zip(batch.keys, batch.hashes, batch.event_ids, strict=True)
    ):
        stored = hashes.get(key)
        if stored == content:
            duplicates.append(index)
        elif stored is not None:
            rejections.append(_key_conflict(*origins[index]))
        elif event_id in taken:
            rejections.append(_event_id_taken(*origins[index]))
        elif (fault := known.faults.get(index)) is not None:
            rejections.append(_row_refused(*origins[index], fault))
        else:
            hashes[key] = content
            taken.add(event_id)
            store.append(index)
    return Decision(store, duplicates, rejections)


def counts(batch: Batch, decision: Decision) -> tuple[Mapping[Outcome, int], ...]:
    """By part, with what the consumer had settled before (dead letters, tombstones)."""
    found = [dict.fromkeys(Outcome, 0) for _ in batch.parts]
    for part, count in zip(batch.parts, found, strict=True):
        count[Outcome.DEAD_LETTERED] = part.dead_lettered
        count[Outcome.TOMBSTONE] = part.tombstones
    if len(decision.store) == len(batch):
        for part_index, offsets in batch.runs:
            found[part_index][Outcome.STORED] += len(offsets)
    else:
        parts = [part_index for part_index, offsets in batch.runs for _ in offsets]
        for outcome, indexes in ((Outcome.STORED, decision.store), (Outcome.DUPLICATE, decision.duplicates)):
            for part_index, number in Counter(map(parts.__getitem__, indexes)).items():
                found[part_index][outcome] += number
    for rejection in decision.rejections:
        found[rejection.part][rejection.outcome] += 1
    return tuple(found)


# Neither keys nor values are quoted in messages: they may hold personal data, and dead letters are read by
# many.


def _key_conflict(part: int, offset: int) -> Rejection:
    return Rejection(
        part=part,
        offset=offset,
        outcome=Outcome.CONFLICT,
        reason="key_conflict",
        message="the idempotency key is stored with another type, entity or payload; give each event its own",
    )


def _event_id_taken(part: int, offset: int) -> Rejection:
    return Rejection(
        part=part,
        offset=offset,
        outcome=Outcome.CONFLICT,
        reason="event_id_taken",
        message="the event id is stored already, under another idempotency key; give each event its own id",
    )


def _row_refused(part: int, offset: int, fault: Fault) -> Rejection:
    return Rejection(
        part=part,
        offset=offset,
        outcome=Outcome.DEAD_LETTERED,
        reason="row_refused",
        message=f"PostgreSQL refuses the row: {fault.message}",
        sqlstate=fault.sqlstate,
    )
