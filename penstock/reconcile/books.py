"""The books and the store's partitions as of one moment, read only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import asyncpg

from penstock.books import Counts
from penstock.reconcile.verdict import Kept, Leaf

__all__ = ["Entry", "Snapshot", "take"]

_OFFSETS: Final = """
SELECT topic, partition, topic_id, next_offset FROM penstock.offsets
WHERE group_id = $1 AND cluster_id = $2 AND topic = ANY ($3::text[])
"""
# With a time: the first range written to since then, and all behind it, so that none seems to be missing.
_RANGES: Final = """
SELECT i.topic, i.partition, i.topic_id, i.first_offset, i.next_offset,
       coalesce(p.state = 'dropped', false) AS expired,
       i.stored, i.duplicate, i.conflict, i.dead_lettered, i.tombstone, i.lost
FROM penstock.ingested i LEFT JOIN penstock.partitions p ON p.name = i.events_partition
WHERE i.group_id = $1 AND i.cluster_id = $2 AND i.topic = ANY ($3::text[])
  AND ($4::timestamptz IS NULL OR i.first_offset >= (
      SELECT min(j.first_offset) FROM penstock.ingested j
      WHERE j.group_id = i.group_id AND j.cluster_id = i.cluster_id AND j.topic = i.topic
        AND j.topic_id = i.topic_id AND j.partition = i.partition AND j.last_at >= $4))
ORDER BY i.first_offset
"""
# The server's own statistics say, at no cost, where rows were deleted; a crash forgets them.
_LEAVES: Final = """
SELECT p.name, p.state, p.rows AS sealed, coalesce(b.stored, 0)::bigint AS stored,
       CASE WHEN p.state <> 'dropped' THEN pg_relation_size(c.oid) END AS bytes,
       coalesce(pg_stat_get_tuples_deleted(c.oid), 0) > 0 AS deleted
FROM penstock.partitions p
LEFT JOIN pg_class c ON c.oid = to_regclass(format('penstock.%I', p.name))
LEFT JOIN (SELECT events_partition, sum(stored) AS stored FROM penstock.ingested GROUP BY 1) b
       ON b.events_partition = p.name
WHERE p.state <> 'future' AND p.upper > coalesce($1::timestamptz, '-infinity')
ORDER BY p.lower DESC
"""


class Entry(NamedTuple):
    """A partition of a topic; the id tells a topic from its deleted namesake."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """As of one moment."""

    positions: Mapping[Entry, tuple[str, int | None]]
    """Topic id and position."""
    ranges: Mapping[Entry, Sequence[tuple[str, Kept]]]
    """Topic id and range, ascending."""
    leaves: Sequence[Leaf]


async def take(
    connection: asyncpg.Connection[Any],
    *,
    group_id: str,
    cluster_id: str,
    topics: Sequence[str],
    since: datetime | None,
    deep: bool,
) -> Snapshot:
    """`deep`: count the events of every partition, whatever its size. Raises asyncpg's errors."""
    look = partial(_look, connection, group_id, cluster_id, topics, since, deep)
    # A table that went after the moment was chosen is retention's: then the next moment knows of it. One that
    # is missing still was removed past the books, and with it its events.
    with suppress(asyncpg.UndefinedTableError):
        return await look(gone=False)
    return await look(gone=True)


async def _look(
    connection: asyncpg.Connection[Any],
    group_id: str,
    cluster_id: str,
    topics: Sequence[str],
    since: datetime | None,
    deep: bool,
    *,
    gone: bool,
) -> Snapshot:
    """`gone`: whether a table may be missing; else UndefinedTableError is raised."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        offsets = await connection.fetch(_OFFSETS, group_id, cluster_id, topics)
        rows = await connection.fetch(_RANGES, group_id, cluster_id, topics, since)
        leaves, left = list[Leaf](), _COUNT_ALL
        for row in await connection.fetch(_LEAVES, since):  # the newest first: those may be counted
            count = deep or row["deleted"] or (row["bytes"] or 0) <= min(left, _COUNT_EACH)
            left -= (row["bytes"] or 0) if count else 0
            leaves.append(await _leaf(connection, row, count=count, gone=gone))
        leaves.reverse()
    ranges: dict[Entry, list[tuple[str, Kept]]] = {}
    for row in rows:
        ranges.setdefault(Entry(row["topic"], row["partition"]), []).append((row["topic_id"], _kept(row)))
    return Snapshot(
        positions={
            Entry(row["topic"], row["partition"]): (row["topic_id"], row["next_offset"]) for row in offsets
        },
        ranges=ranges,
        leaves=leaves,
    )


def _kept(row: asyncpg.Record) -> Kept:
    return Kept(
        first=row["first_offset"],
        next=row["next_offset"],
        counts=Counts(**{item.name: row[item.name] for item in fields(Counts)}),
        expired=row["expired"],
    )


async def _leaf(connection: asyncpg.Connection[Any], row: asyncpg.Record, *, count: bool, gone: bool) -> Leaf:
    """`count`: whether the events are counted where the table is there."""
    rows, there = row["sealed"], row["bytes"] is not None
    counted = there and count
    if not there and row["state"] != "dropped":
        if not gone:
            raise asyncpg.UndefinedTableError(f"penstock.{row['name']} is missing")
        rows, counted = 0, True
    elif counted:
        # The name is the catalogue's own, made by create_partition().
        rows = await connection.fetchval(f'SELECT count(*) FROM penstock."{row["name"]}"', timeout=_COUNTING)
    return Leaf(
        name=row["name"],
        state=row["state"],
        stored=row["stored"],
        rows=rows,
        sealed=row["sealed"],
        counted=counted,
    )


_COUNT_EACH: Final = 512 << 20
"""Bytes of a partition up to which its events are counted without being asked to, in about a second."""
_COUNT_ALL: Final = 2 << 30
"""Bytes of all partitions that are, the newest first."""
_COUNTING: Final = 600.0  # seconds for the events of one partition
