"""A second database to rebuild into: prepared so that a replay finds as gaps what is to be rebuilt, and only
that.

The books of the store say what it keeps. What they do not hold, or retention dropped, is entered in the
scratch's books as read, without outcomes; the group's position is put behind everything.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from penstock.errors import InputError
from penstock.redaction import redact
from penstock.replay.database import connected
from penstock.replay.plan import Asked, PartitionPlan, Plan, make_plan
from penstock.settings import Settings
from penstock_store import migrations
from penstock_store.ingest.replay import replay_group
from penstock_store.ingest.segments import Kind

__all__ = ["prepare"]

_WHICH = "SELECT current_database() || ' ' || pg_postmaster_start_time()"
_EARLIER = "SELECT asked FROM penstock.replays ORDER BY id DESC LIMIT 1"
_PREPARED = "SELECT EXISTS (SELECT FROM penstock.offsets)"
# What is prepared here was never claimed; what a worker writes was.
_FOREIGN = """
SELECT EXISTS (SELECT FROM penstock.offsets WHERE epoch > 0 AND group_id <> $1)
    OR EXISTS (SELECT FROM penstock.events) AND NOT EXISTS (SELECT FROM penstock.replays)
"""
_POSITION = """
INSERT INTO penstock.offsets (group_id, cluster_id, topic, topic_id, partition, next_offset, epoch)
VALUES ($1, $2, $3, $4, $5, $6, 0)
"""
_READ = """
INSERT INTO penstock.ingested (group_id, cluster_id, topic, topic_id, partition, first_offset, next_offset)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def prepare(settings: Settings, store: str, into: str, asked: Asked) -> Plan:
    """Make `into` (migrated where it is empty) the scratch of what `store` keeps of `asked`; returns the plan
    of the rebuild. A scratch of an earlier run for the same is gone on with, up to where that one went.

    Raises `InputError` where it is the store itself or holds anything else, and what `make_plan` raises.
    """
    async with connected(store, settings.timeout_seconds) as ours:
        which = await ours.fetchval(_WHICH)
    async with connected(into, settings.timeout_seconds) as scratch:
        if await scratch.fetchval(_WHICH) == which:
            raise InputError("--into names the store itself; give it an empty database of its own.")
        fresh = await scratch.fetchval("SELECT to_regnamespace('penstock') IS NULL")
    if fresh:
        await asyncio.to_thread(migrations.upgrade, into)
    async with connected(into, settings.timeout_seconds) as scratch:
        foreign = await scratch.fetchval(_FOREIGN, replay_group(asked.group_id))
        if foreign or await scratch.fetchval(_EARLIER) not in (None, str(asked)):
            raise InputError(
                f"{redact(into)} holds something else than an earlier rebuild of {asked}. "
                "Give --into an empty database."
            )
        if not await scratch.fetchval(_PREPARED):
            plan = await make_plan(settings, store, asked)
            async with scratch.transaction():
                for part in plan.parts:
                    await _enter(scratch, asked.group_id, part)
    # Whatever the words mean by now: what is left to rebuild is what the scratch's books lack.
    left = await make_plan(settings, into, replace(asked, span="start", expired=False))
    return replace(left, asked=asked)


async def _enter(scratch: Any, group_id: str, part: PartitionPlan) -> None:
    await scratch.execute(_POSITION, group_id, *part.ref, part.log.next)
    await scratch.executemany(_READ, [(group_id, *part.ref, first, end) for first, end in _left_out(part)])


def _left_out(part: PartitionPlan) -> Sequence[tuple[int, int]]:
    """What was not asked for, the store does not keep, or Kafka has no longer."""
    low = part.log.low
    before = [(0, part.log.first)] if part.log.first else []
    found = before + [(item.first, item.next) for item in part.segments if item.kind is not Kind.INGESTED]
    kept = [item for item in part.segments if item.kind is Kind.INGESTED and item.first < low]
    return found + [(item.first, min(item.next, low)) for item in kept]
