"""Invariants 1 to 3 and 7 on a real server: a batch, its offsets and its ranges are one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse
from penstock_store.errors import FenceLost, SinkUnavailable
from penstock_store.ingest import Batch, BatchPart, Outcome, Rejection

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]


async def _offset(admin: Admin, partition: int = 0) -> int | None:
    value: int | None = await admin.fetchval(
        "SELECT next_offset FROM penstock.offsets WHERE partition = $1", partition
    )
    return value


async def _ranges(admin: Admin) -> list[dict[str, Any]]:
    rows = await admin.fetch("SELECT * FROM penstock.ingested ORDER BY partition, first_offset")
    return [dict(row) for row in rows]


async def test_a_batch_is_stored_field_by_field(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    sent = event(
        "key-é",
        event_type="order.paid",
        occurred_at=-62_135_596_800_000_000,
        actor_type="user",
        actor_id="7",
        entity_id="e" * 1024,
        tenant_id="acme",
        correlation_id="c" * 2000,
        causation_id="because",
        schema_version=3,
        payload='{"name": "Zoë", "n": [1, 2.5]}'.encode(),
        metadata=b'{"tags": ["a"]}',
    )
    result = await sink.write(batch(claim, [sent]), reject=refuse)
    row = await admin.fetchrow("SELECT * FROM penstock.events")
    assert row is not None
    assert row["event_id"].bytes == sent.event_id
    assert row["occurred_at"].year == 1
    for name in (
        "event_type",
        "actor_type",
        "actor_id",
        "entity_id",
        "tenant_id",
        "correlation_id",
        "causation_id",
    ):
        assert row[name] == getattr(sent, name)
    assert (row["schema_version"], row["idempotency_key"], row["content_hash"]) == (
        3,
        "key-é",
        sent.content_hash,
    )
    assert (row["payload"], row["metadata"]) == ('{"n": [1, 2.5], "name": "Zoë"}', '{"tags": ["a"]}')
    assert row["sequence"] == result.first_sequence == result.last_sequence
    assert result.counts[0][Outcome.STORED] == 1
    assert result.partition


async def test_sequence_follows_the_order_of_the_batch(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink(chunk_rows=7)
    claim = (await sink.claim([ref()]))[ref()]
    events = [event(entity_id=str(n)) for n in range(100)]
    await sink.write(batch(claim, events), reject=refuse)
    rows = await admin.fetch("SELECT entity_id, recorded_at FROM penstock.events ORDER BY sequence")
    assert [row["entity_id"] for row in rows] == [str(n) for n in range(100)]
    assert len({row["recorded_at"] for row in rows}) == 1


@pytest.mark.parametrize("same_session", [True, False])
async def test_a_repeated_key_is_a_duplicate_or_a_conflict(
    make_sink: SinkFactory, admin: Admin, *, same_session: bool
) -> None:
    """Also where the worker that stored it first was another one, which only PostgreSQL knows."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()
    events = [event("a", "1"), event("b", "1"), event("a", "1"), event("b", "2"), event("c", "1")]
    first = await sink.write(batch(claim, events), reject=rejected)
    if not same_session:
        sink = await make_sink()
        claim = (await sink.claim([ref()]))[ref()]
    again = batch(claim, [event("a", "1"), event("b", "9"), event("d", "1")], first=5, expected=5)
    second = await sink.write(again, reject=rejected)
    assert first.counts[0] == {
        Outcome.STORED: 3,
        Outcome.DUPLICATE: 1,
        Outcome.CONFLICT: 1,
        Outcome.DEAD_LETTERED: 0,
        Outcome.TOMBSTONE: 0,
    }
    assert (
        second.total(Outcome.STORED),
        second.total(Outcome.DUPLICATE),
        second.total(Outcome.CONFLICT),
    ) == (1, 1, 1)
    assert [(r.offset, r.outcome, r.reason) for r in rejected.seen] == [
        (3, Outcome.CONFLICT, "key_conflict"),
        (6, Outcome.CONFLICT, "key_conflict"),
    ]
    keys = await admin.fetch("SELECT idempotency_key FROM penstock.events ORDER BY sequence")
    assert [row[0] for row in keys] == ["a", "b", "c", "d"]


async def test_the_same_key_of_another_tenant_is_another_key(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    result = await sink.write(
        batch(claim, [event("a", tenant_id="x"), event("a", tenant_id="y")]), reject=refuse
    )
    assert result.total(Outcome.STORED) == 2


async def test_an_event_id_under_another_key_is_a_conflict(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()
    same = uuid.uuid4()
    inside = [event("a", event_id=same), event("b", event_id=same), event("c")]
    first = await sink.write(batch(claim, inside), reject=rejected)
    second = await sink.write(
        batch(claim, [event("d", event_id=same), event("e")], first=3, expected=3), reject=rejected
    )
    assert [(r.offset, r.reason) for r in rejected.seen] == [(1, "event_id_taken"), (3, "event_id_taken")]
    assert (first.total(Outcome.STORED), second.total(Outcome.STORED)) == (2, 1)


async def test_a_refused_row_is_isolated_and_its_neighbours_stored(
    make_sink: SinkFactory, admin: Admin
) -> None:
    """kafka-connect-jdbc #1312's opposite: class 22 is one row's fault, and only that row's."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()
    events = [event(str(n)) for n in range(20)]
    events[3] = event("3", payload=b"{broken")
    events[11] = event("11", entity_id="a\0b")
    events[12] = event("3", "other content, but the first of this key was refused")
    result = await sink.write(batch(claim, events), reject=rejected)
    assert [(r.offset, r.outcome, r.reason, r.sqlstate) for r in rejected.seen] == [
        (3, Outcome.DEAD_LETTERED, "row_refused", "22P02"),
        (11, Outcome.DEAD_LETTERED, "row_refused", "22021"),
    ]
    assert result.total(Outcome.STORED) == 18
    order = await admin.fetch("SELECT idempotency_key FROM penstock.events ORDER BY sequence")
    assert [row[0] for row in order] == [str(n) for n in (0, 1, 2, *range(4, 11), 3, *range(13, 20))]


async def test_a_value_too_large_for_an_index_is_a_row_fault(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()
    incompressible = "".join(uuid.uuid4().hex for _ in range(1000))
    result = await sink.write(batch(claim, [event("a"), event(incompressible)]), reject=rejected)
    assert [r.sqlstate for r in rejected.seen] == ["54000"]
    assert result.total(Outcome.STORED) == 1


async def test_offsets_and_ranges_move_with_the_rows(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref(0), ref(1)])
    parts = [
        BatchPart(claim=claims[ref(0)], expected=None, first_offset=100, next_offset=110, dead_lettered=2),
        BatchPart(claim=claims[ref(1)], expected=None, first_offset=5, next_offset=8, tombstones=1),
    ]
    mixed = Batch(parts)
    mixed.add(0, 100, event("a"))
    mixed.add(1, 5, event("b"))
    mixed.add(0, 109, event("a"))
    result = await sink.write(mixed, reject=refuse)
    assert [counts[Outcome.STORED] for counts in result.counts] == [1, 1]
    assert (await _offset(admin, 0), await _offset(admin, 1)) == (110, 8)
    ranges = await _ranges(admin)
    assert [(r["partition"], r["first_offset"], r["next_offset"]) for r in ranges] == [
        (0, 100, 110),
        (1, 5, 8),
    ]
    # ten offsets, four records: the other six are Kafka's own gaps
    assert [(r["stored"], r["duplicate"], r["dead_lettered"], r["tombstone"]) for r in ranges] == [
        (1, 1, 2, 0),
        (1, 0, 0, 1),
    ]
    assert all(r["events_partition"] == result.partition for r in ranges)


async def test_adjacent_ranges_are_merged_over_gaps(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event(), event()]), reject=refuse)
    # offsets 2 to 9 were compacted away
    await sink.write(batch(claim, [event()], first=10, expected=2), reject=refuse)
    ranges = await _ranges(admin)
    assert [(r["first_offset"], r["next_offset"], r["stored"]) for r in ranges] == [(0, 11, 3)]


async def test_a_batch_without_rows_only_moves_the_offset(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    part = BatchPart(claim=claim, expected=None, first_offset=0, next_offset=3, dead_lettered=1, tombstones=2)
    result = await sink.write(Batch([part]), reject=refuse)
    assert (result.first_sequence, result.total(Outcome.TOMBSTONE)) == (None, 2)
    assert await _offset(admin) == 3
    assert [(r["tombstone"], r["dead_lettered"]) for r in await _ranges(admin)] == [(2, 1)]


async def test_what_reject_raises_rolls_back_and_passes_through(make_sink: SinkFactory, admin: Admin) -> None:
    """No offset moves before the dead-letter topic acknowledged."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]

    async def unavailable(_: object) -> None:
        raise TimeoutError("the dead-letter topic is away")

    events = [event("a", "1"), event("a", "2")]
    with pytest.raises(TimeoutError, match="dead-letter"):
        await sink.write(batch(claim, events), reject=unavailable)
    assert await _offset(admin) is None
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 0
    rejected = Rejections()
    await sink.write(batch(claim, events), reject=rejected)
    assert len(rejected.seen) == 1


async def test_the_fence_names_the_parts_it_refuses(make_sink: SinkFactory, admin: Admin) -> None:
    sink, other = await make_sink(), await make_sink(worker_name="other")
    claims = await sink.claim([ref(0), ref(1), ref(2)])
    await other.claim([ref(1)])
    parts = [BatchPart(claim=claims[ref(n)], expected=None, first_offset=0, next_offset=1) for n in range(3)]
    three = Batch(parts)
    for n in range(3):
        three.add(n, 0, event())
    with pytest.raises(FenceLost) as lost:
        await sink.write(three, reject=refuse)
    assert lost.value.refs == (ref(1),)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 0
    assert await _offset(admin, 0) is None


@pytest.mark.parametrize("expected", [None, 0, 4, 6])
async def test_the_fence_compares_the_stored_position(make_sink: SinkFactory, expected: int | None) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event() for _ in range(5)]), reject=refuse)
    with pytest.raises(FenceLost):
        await sink.write(batch(claim, [event()], first=7, expected=expected), reject=refuse)


async def test_a_commit_whose_answer_was_lost_is_recognised(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    repeated = batch(claim, [event("a", "1"), event("a", "1"), event("b")], first=1, expected=1)
    first = await sink.write(repeated, reject=refuse)
    again = await sink.write(repeated, reject=refuse)
    assert again.already_committed
    assert not first.already_committed
    assert again.counts == first.counts
    assert [(r["next_offset"], r["stored"], r["duplicate"]) for r in await _ranges(admin)] == [(4, 3, 1)]


async def test_skip_accounts_for_a_loss(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    claim = (await sink.claim([ref()]))[ref()]
    moved = await sink.skip(claim, 1, 50, "expired before it was read")
    assert moved.position == 50
    await sink.write(batch(moved, [event()]), reject=refuse)
    ranges = await _ranges(admin)
    assert [(r["first_offset"], r["next_offset"], r["lost"]) for r in ranges] == [
        (0, 1, 0),
        (1, 50, 49),
        (50, 51, 0),
    ]
    assert ranges[1]["events_partition"] is None


async def test_the_position_of_an_empty_partition_is_written_down_without_a_range(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    moved = await sink.skip(claim, 7, 7, "latest")
    assert moved.position == 7
    assert await _ranges(admin) == []
    with pytest.raises(FenceLost):
        await sink.skip(claim, 7, 9, "latest")
    await sink.write(batch(moved, [event()]), reject=refuse)
    assert [(r["first_offset"], r["next_offset"], r["lost"]) for r in await _ranges(admin)] == [(7, 8, 0)]


async def test_a_server_that_shuts_down_between_two_calls_is_away(make_sink: SinkFactory) -> None:
    """asyncpg takes the unasked-for FATAL as a state that it never leaves; that is no fault of ours."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]

    async def shut_down(_: Sequence[Rejection]) -> None:
        fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
        message = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
        sink._writer.connection._protocol.data_received(message)

    key = event(key="k")
    with pytest.raises(SinkUnavailable):
        await sink.write(batch(claim, [key, event(key="k", content="other")]), reject=shut_down)
    written = await sink.write(batch(claim, [key]), reject=refuse)
    assert written.counts[0][Outcome.STORED] == 1
