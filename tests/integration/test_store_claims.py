"""Claims on a real server: one owner, a growing epoch, attempts that count, topics that were made again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from penstock_store.errors import FenceLost, TopicRecreated
from penstock_store.ingest import Batch, BatchPart, Outcome

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]


async def test_a_claim_knows_the_stored_position(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    first = (await sink.claim([ref()]))[ref()]
    assert (first.epoch, first.position) == (1, None)
    await sink.write(batch(first, [event(), event()], first=40), reject=refuse)
    second = (await sink.claim([ref()]))[ref()]
    assert (second.epoch, second.position) == (2, 42)
    assert await sink.claim([]) == {}


async def test_groups_have_positions_of_their_own(make_sink: SinkFactory) -> None:
    one, two = await make_sink(), await make_sink(group_id="replay")
    first = (await one.claim([ref()]))[ref()]
    await one.write(batch(first, [event("a")]), reject=refuse)
    second = (await two.claim([ref()]))[ref()]
    assert (second.epoch, second.position) == (1, None)
    result = await two.write(batch(second, [event("a")]), reject=refuse)
    assert result.total(Outcome.DUPLICATE) == 1


async def test_claims_at_once_leave_one_owner(make_sink: SinkFactory) -> None:
    sinks = [await make_sink(worker_name=f"w{n}") for n in range(6)]
    refs = [ref(n) for n in range(4)]
    claims = await asyncio.gather(*(sink.claim(refs[:: (-1) ** n]) for n, sink in enumerate(sinks)))
    for wanted in refs:
        assert sorted(found[wanted].epoch for found in claims) == [1, 2, 3, 4, 5, 6]
    stored = 0
    for sink, found in zip(sinks, claims, strict=True):
        for wanted in refs:
            with suppress(FenceLost):
                await sink.write(batch(found[wanted], [event()]), reject=refuse)
                stored += 1
    assert stored == len(refs)


async def test_attempts_count_claims_without_progress(make_sink: SinkFactory) -> None:
    """A record that ends its worker's process leaves this trace, and no other."""
    sink = await make_sink()
    for attempt in (1, 2, 3):
        claim = (await sink.claim([ref()]))[ref()]
        assert claim.attempts == attempt
    await sink.write(batch(claim, [event()]), reject=refuse)
    assert (await sink.claim([ref()]))[ref()].attempts == 1
    claim = (await sink.claim([ref()]))[ref()]
    assert claim.attempts == 2
    await sink.release([claim])
    assert (await sink.claim([ref()]))[ref()].attempts == 1


async def test_release_clears_the_owner_and_keeps_the_epoch(make_sink: SinkFactory, admin: Admin) -> None:
    sink, other = await make_sink(worker_name="one"), await make_sink(worker_name="two")
    claim = (await sink.claim([ref()]))[ref()]
    assert await admin.fetchval("SELECT owner_name FROM penstock.offsets") == "one"
    await sink.release([claim])
    row = await admin.fetchrow(
        "SELECT owner_pid, owner_backend_start, owner_name, epoch FROM penstock.offsets"
    )
    assert row is not None
    assert tuple(row) == (None, None, None, 1)
    newer = (await other.claim([ref()]))[ref()]
    await sink.release([claim])
    assert await admin.fetchval("SELECT owner_name FROM penstock.offsets") == "two"
    await other.write(batch(newer, [event()]), reject=refuse)


async def test_a_recreated_topic_is_not_claimed(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    old, new, fine = ref(0), ref(0, topic_id="t-2"), ref(1, topic_id="t-2")
    claim = (await sink.claim([old]))[old]
    await sink.write(batch(claim, [event(), event()]), reject=refuse)
    with pytest.raises(TopicRecreated) as recreated:
        await sink.claim([new, fine])
    assert recreated.value.refs == {new: "t-1"}
    assert await admin.fetchval("SELECT count(*) FROM penstock.offsets") == 1


async def test_adopting_a_recreated_topic_starts_it_anew(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    old, new = ref(0), ref(0, topic_id="t-2")
    before = (await sink.claim([old]))[old]
    await sink.write(batch(before, [event(), event()]), reject=refuse)
    with pytest.raises(FenceLost):
        await sink.adopt(old)
    await sink.adopt(new)
    claim = (await sink.claim([new]))[new]
    assert (claim.epoch, claim.position, claim.leader_epoch) == (3, 0, None)
    await sink.write(batch(claim, [event()], expected=0), reject=refuse)
    with pytest.raises(FenceLost):
        await sink.write(batch(before, [event()], first=2, expected=2), reject=refuse)
    ranges = await admin.fetch(
        "SELECT topic_id, first_offset, next_offset FROM penstock.ingested ORDER BY topic_id"
    )
    assert [tuple(row) for row in ranges] == [("t-1", 0, 2), ("t-2", 0, 1)]


async def test_an_older_epoch_writes_nothing_even_at_the_right_position(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink()
    old = (await sink.claim([ref()]))[ref()]
    await sink.claim([ref()])
    part = BatchPart(claim=old, expected=None, first_offset=0, next_offset=1, tombstones=1)
    with pytest.raises(FenceLost):
        await sink.write(Batch([part]), reject=refuse)
    with pytest.raises(FenceLost):
        await sink.skip(old, 0, 5, "test")
    assert await admin.fetchval("SELECT next_offset FROM penstock.offsets") is None
    assert await admin.fetchval("SELECT count(*) FROM penstock.ingested") == 0


async def test_a_partition_that_comes_under_a_topic_that_the_group_knows_begins_at_offset_0(
    make_sink: SinkFactory,
) -> None:
    sinks = [await make_sink(worker_name=f"w{n}") for n in range(3)]
    sink, other = sinks[0], await make_sink(group_id="another")
    first, later, elsewhere = [ref(0), ref(1), ref(2)], ref(3), ref(0, topic="payments")
    found = await asyncio.gather(*(one.claim([first[n]], first) for n, one in enumerate(sinks)))
    assert [claim.position for claims in found for claim in claims.values()] == [None, None, None]
    claims = await sink.claim([*first, later, elsewhere], [*first, later, elsewhere])
    assert [claims[one].position for one in (*first, later, elsewhere)] == [None, None, None, 0, None]
    assert (await other.claim([later], [*first, later]))[later].position is None


async def test_a_topic_made_anew_with_more_partitions_is_no_new_one(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    await sink.claim([ref()], [ref()])
    more = ref(1, topic_id="t-2")
    assert (await sink.claim([more], [ref(0, topic_id="t-2"), more]))[more].position == 0


async def test_a_partition_that_is_met_again_stays_where_it_is(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()], [ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    again = (await sink.claim([ref()], [ref()]))[ref()]
    assert (again.epoch, again.position) == (2, 1)
