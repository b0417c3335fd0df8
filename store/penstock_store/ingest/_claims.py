"""Claims: who may write a partition, and how an owner that is stuck in the middle of a batch is put out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from penstock_store.errors import FenceLost, SinkUnavailable, TopicRecreated
from penstock_store.ingest.model import Claim, PartitionRef

__all__ = ["Owner", "adopt", "claim", "rebind", "release"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_REFS: Final = (
    "unnest($2::text[], $3::text[], $4::text[], $5::int[]) AS r (cluster_id, topic, topic_id, partition)"
)
_CLAIMS: Final = (
    "unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[]) "
    "AS r (cluster_id, topic, topic_id, partition, epoch)"
)
_SAME: Final = (
    'o.group_id = $1 AND o.cluster_id = r.cluster_id COLLATE "C" AND o.topic = r.topic COLLATE "C" '
    "AND o.partition = r.partition"
)
_LOOK: Final = f"""
SELECT r.cluster_id, r.topic, r.topic_id, r.partition, o.topic_id AS stored_id, o.epoch,
       o.owner_pid, o.owner_backend_start
FROM {_REFS} JOIN penstock.offsets o ON {_SAME}
"""
# One that comes under a name that the group knows is written from its first offset on, as with _ADOPT.
_MEET: Final = f"""
INSERT INTO penstock.offsets (group_id, cluster_id, topic, topic_id, partition, epoch, next_offset)
SELECT $1, r.cluster_id, r.topic, r.topic_id, r.partition, 0, CASE WHEN EXISTS (
    SELECT FROM penstock.offsets o WHERE o.group_id = $1 AND o.cluster_id = r.cluster_id COLLATE "C"
      AND o.topic = r.topic COLLATE "C") THEN 0 END
FROM {_REFS} ORDER BY r.cluster_id COLLATE "C", r.topic COLLATE "C", r.partition
ON CONFLICT DO NOTHING
"""
# In key order, so that two claims never wait for each other.
_CLAIM: Final = f"""
INSERT INTO penstock.offsets AS o
    (group_id, cluster_id, topic, topic_id, partition, epoch, owner_pid, owner_backend_start, owner_name,
    attempts)
SELECT $1, r.cluster_id, r.topic, r.topic_id, r.partition, 1, $6, $7, $8, 1
FROM {_REFS} ORDER BY r.cluster_id COLLATE "C", r.topic COLLATE "C", r.partition
ON CONFLICT (group_id, cluster_id, topic, partition) DO UPDATE
SET epoch = o.epoch + 1, owner_pid = excluded.owner_pid, owner_backend_start = excluded.owner_backend_start,
    owner_name = excluded.owner_name, attempts = o.attempts + 1, claimed_at = clock_timestamp()
WHERE o.topic_id = excluded.topic_id
RETURNING cluster_id, topic, topic_id, partition, epoch, next_offset, leader_epoch, attempts
"""
_REBIND: Final = f"""
UPDATE penstock.offsets o SET owner_pid = $7, owner_backend_start = $8, owner_name = $9
FROM {_CLAIMS} WHERE {_SAME} AND o.topic_id = r.topic_id COLLATE "C" AND o.epoch = r.epoch
"""
_RELEASE: Final = f"""
UPDATE penstock.offsets o SET owner_pid = NULL, owner_backend_start = NULL, owner_name = NULL, attempts = 0
FROM {_CLAIMS} WHERE {_SAME} AND o.topic_id = r.topic_id COLLATE "C" AND o.epoch = r.epoch
"""
_ADOPT: Final = """
UPDATE penstock.offsets SET topic_id = $4, next_offset = 0, leader_epoch = NULL, epoch = epoch + 1,
    attempts = 0, owner_pid = NULL, owner_backend_start = NULL, owner_name = NULL
WHERE group_id = $1 AND cluster_id = $2 AND topic = $3 AND partition = $5 AND topic_id <> $4
"""
# pg_stat_activity shows the start of other backends only to the same login (or pg_read_all_stats), which is
# the privilege that ending them needs as well.
_EVICT: Final = """
SELECT pg_terminate_backend(a.pid, $3) AS gone
FROM unnest($1::int[], $2::timestamptz[]) AS b (pid, backend_start)
JOIN pg_stat_activity a ON a.pid = b.pid AND a.backend_start = b.backend_start
"""
_EVICTION_MS: Final = 5000

Statement = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Owner:
    """The backend that will write: pids are used again, with the start they are unique."""

    pid: int
    backend_start: datetime | None
    name: str


async def claim(
    connection: Connection,
    group_id: str,
    refs: Sequence[PartitionRef],
    owner: Owner,
    patience: float,
    met: Sequence[PartitionRef] = (),
) -> dict[PartitionRef, Claim]:
    """Raise the epoch of every partition, all or none; first write down those in `met` that the group did not
    know. Raises TopicRecreated, SinkUnavailable, asyncpg's errors.
    """
    args = _args(group_id, refs)
    seen = await connection.fetch(_LOOK, *args)
    recreated = {_ref(row): row["stored_id"] for row in seen if row["stored_id"] != row["topic_id"]}
    if recreated:
        raise TopicRecreated(recreated)
    statements = [(_MEET, _args(group_id, met))] if met else []
    statements.append((_CLAIM, (*args, owner.pid, owner.backend_start, owner.name)))
    rows = await _patiently(connection, statements, _others(seen, owner), patience)
    return {
        (ref := _ref(row)): Claim(
            group_id=group_id,
            ref=ref,
            epoch=row["epoch"],
            position=row["next_offset"],
            leader_epoch=row["leader_epoch"],
            attempts=row["attempts"],
        )
        for row in rows
    }


async def rebind(connection: Connection, claims: Sequence[Claim], owner: Owner, patience: float) -> None:
    """After a reconnection: name the new backend as the owner, and end the old one where it still holds a
    batch.
    """
    args = _args(claims[0].group_id, [claim.ref for claim in claims])
    epochs = [claim.epoch for claim in claims]
    ours = {claim.ref: claim.epoch for claim in claims}
    seen = [row for row in await connection.fetch(_LOOK, *args) if ours[_ref(row)] == row["epoch"]]
    await _patiently(
        connection,
        [(_REBIND, (*args, epochs, owner.pid, owner.backend_start, owner.name))],
        _others(seen, owner),
        patience,
    )


async def release(connection: Connection, claims: Sequence[Claim]) -> None:
    """Nobody owns these; a claim that is no longer ours is left alone."""
    args = _args(claims[0].group_id, [claim.ref for claim in claims])
    await connection.execute(_RELEASE, *args, [claim.epoch for claim in claims])


async def adopt(connection: Connection, group_id: str, ref: PartitionRef) -> None:
    """Take the topic's new id as the one to store from now on, from its first offset. Raises FenceLost where
    it is not another topic than the one stored.
    """
    if await connection.execute(_ADOPT, group_id, *ref) != "UPDATE 1":
        raise FenceLost([ref])


async def _patiently(
    connection: Connection,
    statements: Sequence[Statement],
    owners: Sequence[tuple[int, datetime]],
    patience: float,
) -> list[asyncpg.Record]:
    """Wait a moment for the rows; then end the owners' backends, which release them at once, and wait
    again.
    """
    try:
        return await _within(connection, statements, patience)
    except asyncpg.LockNotAvailableError:
        await connection.fetch(
            _EVICT, [pid for pid, _ in owners], [start for _, start in owners], _EVICTION_MS
        )
    try:
        return await _within(connection, statements, patience + _EVICTION_MS / 1000)
    except asyncpg.LockNotAvailableError as error:
        raise SinkUnavailable(
            "another session holds the offsets of partitions to be claimed and could not be ended. "
            "Workers of a group must share one login, or be in pg_signal_backend and pg_read_all_stats. "
            "Nothing was claimed; retry",
            sqlstate="55P03",
        ) from error


async def _within(
    connection: Connection, statements: Sequence[Statement], seconds: float
) -> list[asyncpg.Record]:
    """What the last of them returns."""
    rows: list[asyncpg.Record] = []
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SET LOCAL lock_timeout = {max(1, int(seconds * 1000))}")
        for query, args in statements:
            rows = await connection.fetch(query, *args)
    return rows


def _args(group_id: str, refs: Iterable[PartitionRef]) -> tuple[Any, ...]:
    columns: Sequence[Sequence[Any]] = list(zip(*refs, strict=True))
    return (group_id, *(list(column) for column in columns))


def _ref(row: Mapping[str, Any] | asyncpg.Record) -> PartitionRef:
    return PartitionRef(row["cluster_id"], row["topic"], row["topic_id"], row["partition"])


def _others(seen: Iterable[asyncpg.Record], owner: Owner) -> list[tuple[int, datetime]]:
    return [
        (row["owner_pid"], row["owner_backend_start"])
        for row in seen
        if row["owner_pid"] is not None and row["owner_pid"] != owner.pid
    ]
