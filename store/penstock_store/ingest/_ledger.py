"""The batch's books inside its transaction: the fence that opens it, the ranges that close it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import asyncpg

from penstock_store.appending import Key
from penstock_store.errors import FenceLost
from penstock_store.ingest.batch import Batch, BatchPart
from penstock_store.ingest.model import Outcome, ReplayRun, WriteResult

__all__ = ["NoCurrentPartition", "Opened", "admit", "finish", "open_batch", "recover"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_BEGIN = "SELECT * FROM penstock.begin_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_FINISH = "SELECT penstock.finish_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_ADMIT = "SELECT penstock.guard_replay($1, $2, $3, $4, $5, $6, $7)"
_PROGRESS = """
UPDATE penstock.replays
SET done = done + $2, stored = stored + $3, duplicate = duplicate + $4, conflict = conflict + $5,
    dead_lettered = dead_lettered + $6, tombstone = tombstone + $7, seen_at = clock_timestamp()
WHERE id = $1
"""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


class NoCurrentPartition(Exception):
    """No partition of events is current, or the one that is has `ended`: make one and begin again."""

    def __init__(self, *, ended: bool) -> None:
        super().__init__()
        self.ended = ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What `penstock.begin_write` answered."""

    leaf: str
    recorded_at: datetime
    first_sequence: int | None
    roll_due: bool
    closed: Sequence[str]
    """Partitions where the keys may be known, newest first."""
    printed: Sequence[str]
    """Those of them that have key prints."""

    @property
    def recorded_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return (self.recorded_at - _EPOCH) // _MICROSECOND


async def open_batch(
    connection: Connection,
    parts: Sequence[BatchPart],
    *,
    keys: Sequence[Key],
    window: timedelta,
    late: bool = False,
) -> Opened:
    """Fence all parts, lock the current partition, draw a sequence for each key. `late`: also in a partition
    that has ended. Raises FenceLost, NoCurrentPartition.
    """
    row = await connection.fetchrow(
        _BEGIN,
        *_coordinates(parts),
        [part.claim.epoch for part in parts],
        [part.expected for part in parts],
        [part.next_offset for part in parts],
        [part.leader_epoch for part in parts],
        len(keys),
        window,
        min(map(itemgetter(1), keys), default=None),
        max(map(itemgetter(1), keys), default=None),
        late,
    )
    assert row is not None  # noqa: S101  a function with OUT parameters has one row
    if row["fenced"]:
        raise FenceLost(parts[index].claim.ref for index in row["fenced"])
    if row["leaf"] is None:
        raise NoCurrentPartition(ended=bool(row["roll_due"]))
    return Opened(
        leaf=row["leaf"],
        recorded_at=row["recorded_at"],
        first_sequence=row["first_sequence"],
        roll_due=row["roll_due"],
        closed=row["closed"],
        printed=row["printed"],
    )


async def admit(connection: Connection, parts: Sequence[BatchPart], replay: ReplayRun) -> None:
    """Refuse what is not a replay's to write: what no worker has passed, or is in the books. Raises
    FenceLost.
    """
    refused = await connection.fetchval(
        _ADMIT,
        *_coordinates(parts, replay),
        [part.start for part in parts],
        [part.next_offset for part in parts],
    )
    if refused:
        raise FenceLost(parts[index].claim.ref for index in refused)


async def finish(
    connection: Connection,
    parts: Sequence[BatchPart],
    found: Sequence[Any],
    leaf: str | None,
    lost: Sequence[int] | None = None,
    replay: ReplayRun | None = None,
) -> None:
    """Write down the ranges with their counts, and a replay's progress."""
    await connection.execute(
        _FINISH,
        *_coordinates(parts, replay),
        [part.start for part in parts],
        [part.next_offset for part in parts],
        *([count[outcome] for count in found] for outcome in Outcome),
        lost or [0] * len(parts),
        leaf,
    )
    if replay is not None:
        await connection.execute(
            _PROGRESS,
            replay.run,
            sum(part.next_offset - part.start for part in parts),
            *(sum(count[outcome] for count in found) for outcome in Outcome),
        )


async def recover(
    connection: Connection, batch: Batch, replay: ReplayRun | None = None
) -> WriteResult | None:
    """The counts of this very batch where it is committed already, None where it is not.

    After a COMMIT whose answer was lost the fence refuses the retry; that the epoch is still ours and the
    stored position and the newest range are exactly the batch's can only be its own doing.
    """
    found = []
    for part in batch.parts:
        ref = part.claim.ref
        last = await connection.fetchval(
            """
            SELECT i.last_batch FROM penstock.offsets o
            JOIN penstock.ingested i USING (cluster_id, topic, topic_id, partition)
            WHERE o.group_id = $1 AND o.cluster_id = $2 AND o.topic = $3 AND o.topic_id = $4 AND o.partition =
            $5
              AND o.epoch = $6 AND o.next_offset = $7 AND i.group_id = $9 AND i.next_offset = $7
              AND i.last_batch[1] = $8
            """,
            part.claim.group_id,
            *ref,
            part.claim.epoch,
            part.next_offset,
            part.start,
            part.claim.group_id if replay is None else replay.books,
        )
        if last is None:
            return None
        found.append(dict(zip(Outcome, last[1:], strict=False)))
    return WriteResult(counts=tuple(found), partition=None, already_committed=True)


def _coordinates(parts: Sequence[BatchPart], replay: ReplayRun | None = None) -> tuple[Any, ...]:
    refs = [part.claim.ref for part in parts]
    return (
        parts[0].claim.group_id if replay is None else replay.books,
        [ref.cluster_id for ref in refs],
        [ref.topic for ref in refs],
        [ref.topic_id for ref in refs],
        [ref.partition for ref in refs],
    )
