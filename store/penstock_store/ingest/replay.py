"""Writing for a replay: the sink of a worker, kept to what the books of its group do not hold.

Its claims stand in `penstock.offsets` under a group of their own, so that replay and worker never meet at a
fence; `penstock.guard_replay` admits a batch only below the worker's position and outside of every range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

import asyncpg

from penstock_store.errors import FenceLost, ReplayInTheWay, ReplaySuperseded
from penstock_store.ingest.model import Claim, PartitionRef, ReplayRun
from penstock_store.ingest.segments import TO_READ, IngestedRange, divide, reopenable
from penstock_store.ingest.settings import SinkSettings
from penstock_store.ingest.sink import PostgresSink

__all__ = ["ALL_KEPT", "SILENCE", "Gap", "ReplayRequest", "ReplaySink", "read_ranges", "replay_group"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ALL_KEPT: Final = timedelta(days=36_500)
"""A replay's dedupe window: a repeated key is looked for in every partition that is kept, as its first record
may have come any time ago."""

_POSITION: Final = """
SELECT next_offset FROM penstock.offsets
WHERE group_id = $1 AND cluster_id = $2 AND topic = $3 AND topic_id = $4 AND partition = $5
"""
_RANGES: Final = """
SELECT i.first_offset, i.next_offset, coalesce(p.state = 'dropped', false) AS expired,
       i.lost > 0 AND i.stored + i.duplicate + i.conflict + i.dead_lettered + i.tombstone = 0 AS lost
FROM penstock.ingested i LEFT JOIN penstock.partitions p ON p.name = i.events_partition
WHERE i.group_id = $1 AND i.cluster_id = $2 AND i.topic = $3 AND i.topic_id = $4 AND i.partition = $5
  AND i.next_offset > $6 AND i.first_offset < $7
ORDER BY i.first_offset
"""
_PLACE: Final = """
UPDATE penstock.offsets SET next_offset = $6
WHERE group_id = $1 AND cluster_id = $2 AND topic = $3 AND topic_id = $4 AND partition = $5 AND epoch = $7
"""
_EPOCH: Final = """
SELECT epoch FROM penstock.offsets
WHERE group_id = $1 AND cluster_id = $2 AND topic = $3 AND topic_id = $4 AND partition = $5
"""
_REOPEN: Final = "SELECT penstock.reopen_expired($1, $2, $3, $4, $5, $6)"
_BEGIN: Final = """
INSERT INTO penstock.replays
    (group_id, cluster_id, topics, partitions, first_offsets, next_offsets, expired, asked, records,
     owner_name)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id
"""
_RUNNING_THERE: Final = """
r.group_id = $1 AND r.cluster_id = $2 AND r.state = 'running'
  AND EXISTS (SELECT FROM unnest(r.topics, r.partitions) AS o (topic, partition)
              JOIN unnest($3::text[], $4::int[]) AS n (topic, partition) USING (topic, partition))
"""
_IN_THE_WAY: Final = f"""
SELECT id, owner_name FROM penstock.replays r
WHERE {_RUNNING_THERE} AND seen_at > clock_timestamp() - $5::interval LIMIT 1
"""
_TAKEN_OVER: Final = f"""
UPDATE penstock.replays r
SET state = 'failed', message = 'taken over by replay ' || $5::bigint, ended_at = clock_timestamp()
WHERE {_RUNNING_THERE} AND id <> $5
"""
_SEEN: Final = "UPDATE penstock.replays SET seen_at = clock_timestamp() WHERE id = $1"
_REOPENED: Final = "UPDATE penstock.replays SET reopened = reopened + $2 WHERE id = $1"
_END: Final = """
UPDATE penstock.replays
SET state = $2, message = $3, seen_at = clock_timestamp(), ended_at = clock_timestamp()
WHERE id = $1
"""
SILENCE: Final = timedelta(seconds=15)
"""Without a sign of life for so long a run counts as dead."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets [first, next) that the books lack; the claim stands at its beginning."""

    claim: Claim
    first: int
    next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """What a run is to fill: offsets [first, next) of each partition."""

    bounds: dict[PartitionRef, tuple[int, int]]
    asked: str
    """In the words of whoever asked."""
    records: int
    """Offsets to be read as it begins."""
    expired: bool = False
    """Also what retention has dropped."""


def replay_group(group_id: str) -> str:
    """The group under which a replay's claims stand; it has no Kafka consumers."""
    return f"{group_id}!replay"


async def read_ranges(
    connection: Connection, group_id: str, ref: PartitionRef, first: int, next_offset: int
) -> tuple[int | None, list[IngestedRange]]:
    """The worker's position and the ranges that meet [first, next_offset). Raises asyncpg's errors."""
    # The position first: what is in no range and below it is then no batch that is just being committed.
    position = await connection.fetchval(_POSITION, group_id, *ref)
    rows = await connection.fetch(_RANGES, group_id, *ref, first, next_offset)
    return position, [IngestedRange(*row.values()) for row in rows]


class ReplaySink(PostgresSink):
    """Fills gaps. `settings.group_id` is the group that is replayed for; see PostgresSink for the rest."""

    def __init__(self, settings: SinkSettings) -> None:
        self._books = settings.group_id
        changes = {"group_id": replay_group(settings.group_id), "dedupe_window": ALL_KEPT}
        super().__init__(settings.model_copy(update=changes))
        self._epochs: dict[PartitionRef, int] = {}
        self._expired = False

    async def begin(self, request: ReplayRequest, *, take_over: bool = False) -> int:
        """Enter the run into `penstock.replays`; returns its number. Raises ReplayInTheWay where another one
        is alive on one of the partitions, unless told to take over: then that one ends.
        """
        refs = list(request.bounds)
        topics, partitions = [ref.topic for ref in refs], [ref.partition for ref in refs]

        async def enter(connection: Connection) -> int:
            async with connection.transaction():
                await connection.execute("LOCK TABLE penstock.replays IN SHARE ROW EXCLUSIVE MODE")
                where = (self._books, refs[0].cluster_id, topics, partitions)
                other = await connection.fetchrow(_IN_THE_WAY, *where, SILENCE)
                if other is not None and not take_over:
                    raise ReplayInTheWay(other["id"], other["owner_name"])
                run: int = await connection.fetchval(
                    _BEGIN,
                    *where,
                    [first for first, _ in request.bounds.values()],
                    [end for _, end in request.bounds.values()],
                    request.expired,
                    request.asked,
                    request.records,
                    self._settings.worker_name,
                )
                # one that was killed has nobody else to say so, and would be in the way of the next
                await connection.execute(_TAKEN_OVER, *where, run)
                return run

        run = await self._on_control(enter, "the start of a replay")
        self._replay = ReplayRun(self._books, run)
        self._expired = request.expired
        return run

    async def seen(self) -> None:
        """Give a sign of life."""
        await self._on_control(lambda connection: connection.execute(_SEEN, self._run), "a sign of life")

    async def end(self, state: Literal["finished", "stopped", "failed"], message: str | None = None) -> None:
        """Say how the run ended."""
        await self._on_control(
            lambda connection: connection.execute(_END, self._run, state, message), "the end of a replay"
        )

    async def claim(
        self, refs: Iterable[PartitionRef], met: Sequence[PartitionRef] = ()
    ) -> dict[PartitionRef, Claim]:
        """See PostgresSink. Raises ReplaySuperseded where another run claimed a partition of this one since:
        the newest goes on, so that two never take partitions from each other in turn.
        """
        wanted = list(dict.fromkeys(refs))

        async def taken(connection: Connection) -> list[PartitionRef]:
            group, known = self._settings.group_id, self._epochs
            return [
                ref
                for ref in wanted
                if ref in known and await connection.fetchval(_EPOCH, group, *ref) != known[ref]
            ]

        if others := await self._on_control(taken, "a look at claims"):
            raise ReplaySuperseded(others)
        claims = await super().claim(wanted, met)
        self._epochs |= {ref: claim.epoch for ref, claim in claims.items()}
        return claims

    async def next_gap(self, claim: Claim, first: int, next_offset: int, *, low: int) -> Gap | None:
        """The first gap within [first, next_offset), with the claim moved to its beginning; None where the
        books hold everything that is a replay's to read. `low`: the first offset that the broker has.
        """

        async def look(connection: Connection) -> Gap | None:
            position, ranges = await read_ranges(connection, self._books, claim.ref, first, next_offset)
            segments = divide(first, next_offset, ranges, position=position, low=low)
            found = [(item.first, item.next, False) for item in segments if item.kind in TO_READ]
            if self._expired:
                found += [
                    (item.first, item.next, True) for item in reopenable(ranges, first, next_offset, low)
                ]
            if not found:
                return None
            begin, end, reopen = min(found)
            async with connection.transaction():
                # The fence first: whoever lost the partition takes nothing out of the books.
                place = (claim.group_id, *claim.ref, begin, claim.epoch)
                if await connection.execute(_PLACE, *place) != "UPDATE 1":
                    raise FenceLost([claim.ref])
                if reopen:
                    await self._reopen(connection, claim.ref, begin)
            return Gap(replace(claim, position=begin, leader_epoch=None), begin, end)

        gap = await self._on_control(look, "a look for gaps")
        if gap is not None:
            self._held[claim.ref] = gap.claim
        return gap

    async def _reopen(self, connection: Connection, ref: PartitionRef, first: int) -> None:
        width = await connection.fetchval(_REOPEN, self._books, *ref, first)
        await connection.execute(_REOPENED, self._run, width or 0)

    @property
    def _run(self) -> int:
        if self._replay is None:
            raise RuntimeError("begin() comes first")
        return self._replay.run
