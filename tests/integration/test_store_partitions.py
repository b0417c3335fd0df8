"""Partitions on a real server: a roll loses no duplicate, closing prunes, dropping keeps the books."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from fixtures.databases import Database
from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse, set_clock
from penstock_store import partitions
from penstock_store.errors import PartitionError
from penstock_store.ingest import Outcome
from penstock_store.ingest._ledger import open_batch
from penstock_store.partitions import PartitionState

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]


async def _roll_ahead(admin: Admin) -> str:
    """Roll to the partition after the current one, whatever the clock says; returns the one that was left."""
    name, upper = await admin.fetchrow("SELECT name, upper FROM penstock.partitions WHERE state = 'current'")
    await admin.fetchval("SELECT penstock.create_partition($1)", upper)
    assert await admin.fetchval("SELECT penstock.roll($1)", upper) == "rolled"
    return str(name)


async def test_a_writer_that_finds_no_partition_makes_one(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    assert await partitions.list_partitions(admin) == []
    result = await sink.write(batch(claim, [event()]), reject=refuse)
    made = await partitions.list_partitions(admin)
    assert [p.state for p in made] == [PartitionState.CURRENT, PartitionState.FUTURE]
    assert made[0].name == result.partition
    assert made[0].lower <= datetime.now(UTC) < made[0].upper == made[1].lower


@pytest.mark.parametrize("seconds", [1, 7, 3600, 86400])
async def test_partitions_ahead_join_without_a_gap(admin: Admin, seconds: int) -> None:
    await admin.execute("UPDATE penstock.settings SET partition_interval = $1", timedelta(seconds=seconds))
    names = await partitions.ensure_ahead(admin, 5)
    made = await partitions.list_partitions(admin)
    assert [p.name for p in made[:6]] == list(names)
    assert all(a.upper == b.lower for a, b in pairwise(made))
    assert all(p.upper - p.lower == timedelta(seconds=seconds) for p in made)


async def test_a_year_of_partitions_fits_the_servers_lock_table(admin: Admin, database: Database) -> None:
    retention = await asyncpg.connect(database.retention_url)
    try:
        names = await partitions.ensure_ahead(retention, 365)
    finally:
        await retention.close()
    assert len(set(names)) == 366
    with pytest.raises(PartitionError, match="0 to 400"):
        await partitions.ensure_ahead(admin, 401)


async def test_a_changed_interval_leaves_neither_gap_nor_overlap(admin: Admin) -> None:
    await admin.execute("UPDATE penstock.settings SET partition_interval = '1 hour'")
    await partitions.ensure_ahead(admin, 1)
    await admin.execute("UPDATE penstock.settings SET partition_interval = '1 day'")
    await partitions.ensure_ahead(admin, 4)
    made = await partitions.list_partitions(admin)
    assert all(a.upper == b.lower for a, b in pairwise(made))


async def test_only_the_due_roll_happens_and_only_forward(admin: Admin) -> None:
    await partitions.ensure_ahead(admin, 3)
    assert await partitions.make_current(admin)
    assert not await partitions.make_current(admin)
    first = await _roll_ahead(admin)
    assert await admin.fetchval("SELECT penstock.roll()") == "current"
    states = {p.name: p.state for p in await partitions.list_partitions(admin)}
    assert states[first] is PartitionState.CLOSED
    with pytest.raises(asyncpg.PostgresError, match="rolled past"):
        await admin.fetchval("SELECT penstock.create_partition(clock_timestamp() - interval '3 days')")


async def test_recorded_at_is_clamped_to_the_current_partition(make_sink: SinkFactory, admin: Admin) -> None:
    """The clock may lie on either side: before (rolled early, clock set back) or after (roll is late)."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    await _roll_ahead(admin)
    await sink.write(batch(claim, [event()], first=1, expected=1), reject=refuse)
    lower = await admin.fetchval("SELECT lower FROM penstock.partitions WHERE state = 'current'")
    assert await admin.fetchval("SELECT max(recorded_at) FROM penstock.events") == lower


async def test_a_late_roll_is_made_by_the_writer(
    make_sink: SinkFactory, admin: Admin, wait_for_async
) -> None:  # type: ignore[no-untyped-def]
    await admin.execute("UPDATE penstock.settings SET partition_interval = '1 second'")
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    first = await sink.write(batch(claim, [event()]), reject=refuse)
    upper = await admin.fetchval("SELECT upper FROM penstock.partitions WHERE name = $1", first.partition)
    await wait_for_async(
        lambda: admin.fetchval("SELECT clock_timestamp() > $1", upper), 10, "the partition's end"
    )
    late = await sink.write(batch(claim, [event()], first=1, expected=1), reject=refuse)
    assert late.partition == first.partition
    stamps = await admin.fetchval("SELECT max(recorded_at) FROM penstock.events")
    assert stamps == upper - timedelta(microseconds=1)
    rolled = "SELECT count(*) FROM penstock.partitions WHERE state = 'closed'"
    await wait_for_async(lambda: admin.fetchval(rolled), 10, "the roll")


async def _leave_days_ago(admin: Admin) -> datetime:
    """The current partition is one of three days ago, as where no worker wrote since; its end."""
    await admin.execute("SELECT penstock.create_partition(clock_timestamp() - interval '3 days')")
    assert await admin.fetchval("SELECT penstock.roll(clock_timestamp() - interval '3 days')") == "rolled"
    upper: datetime = await admin.fetchval("SELECT upper FROM penstock.partitions WHERE state = 'current'")
    return upper


async def test_the_first_batch_after_quiet_days_is_of_now(make_sink: SinkFactory, admin: Admin) -> None:
    await _leave_days_ago(admin)
    before = await admin.fetchval("SELECT clock_timestamp()")
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event(), event()]), reject=refuse)
    assert await admin.fetchval("SELECT min(recorded_at) FROM penstock.events") >= before
    states = [p.state for p in await partitions.list_partitions(admin)]
    assert states == [PartitionState.CLOSED, PartitionState.CURRENT, PartitionState.FUTURE]


async def test_a_roll_that_cannot_pass_stops_no_batch(make_sink: SinkFactory, admin: Admin) -> None:
    upper = await _leave_days_ago(admin)
    await admin.execute("ALTER FUNCTION penstock.roll(timestamptz) SET lock_timeout = '50ms'")
    await admin.execute("SELECT pg_advisory_lock_shared(1346719315, 1)")  # as a batch of a stopped worker
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    with capture_logs() as logs:
        for number in range(3):
            made = batch(claim, [event()], first=number, expected=number or None)
            await sink.write(made, reject=refuse)
    assert await admin.fetchval("SELECT min(recorded_at) FROM penstock.events") == upper - timedelta(
        microseconds=1
    )
    assert [log["event"] for log in logs] == ["upkeep_failed"]


async def test_what_is_lost_after_quiet_days_is_accounted_for(make_sink: SinkFactory, admin: Admin) -> None:
    await _leave_days_ago(admin)
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    assert (await sink.skip(claim, 0, 5, "gone")).position == 5


async def test_a_key_repeated_across_a_roll_is_found(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()
    await sink.write(batch(claim, [event("a", "1"), event("b", "1")]), reject=refuse)
    closed = await _roll_ahead(admin)
    for first in (2, 5):
        again = batch(
            claim, [event("a", "1"), event("b", "2"), event(f"new-{first}")], first=first, expected=first
        )
        result = await sink.write(again, reject=rejected)
        assert result.total(Outcome.DUPLICATE) == 1
        assert result.partition != closed
        # the second time the closed partition has its key bounds
        await partitions.close(admin, closed)
    assert [r.reason for r in rejected.seen] == ["key_conflict"] * 2
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 4


async def test_the_window_bounds_how_far_back_keys_are_known(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink(dedupe_window=timedelta(0))
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    await _roll_ahead(admin)
    await set_clock(admin, timedelta(days=1))
    result = await sink.write(batch(claim, [event("a")], first=1, expected=1), reject=refuse)
    assert result.total(Outcome.STORED) == 1


@pytest.mark.parametrize(
    ("key", "probed"), [("0", False), ("a", True), ("m", True), ("z", True), ("zz", False)]
)
async def test_a_closed_partition_is_probed_only_where_its_keys_may_be(
    make_sink: SinkFactory, admin: Admin, key: str, probed: bool
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a"), event("z")]), reject=refuse)
    closed = await _roll_ahead(admin)
    await partitions.close(admin, closed)
    later = batch(claim, [event(key)], first=2, expected=2)
    async with admin.transaction():
        opened = await open_batch(admin, later.parts, keys=later.keys, window=timedelta(hours=24))
    assert opened.closed == ([closed] if probed else [])


@pytest.mark.parametrize(("beyond", "probed"), [(0, False), (1, True)])
async def test_a_closed_partition_is_probed_as_long_as_it_reaches_into_the_window(
    make_sink: SinkFactory, admin: Admin, beyond: int, probed: bool
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    closed = [await _roll_ahead(admin), await _roll_ahead(admin)]
    later = batch(claim, [event("a")], first=1, expected=1)
    # recorded_at is clamped to the last moment of the current one: the oldest ended two days before its end
    await set_clock(admin, timedelta(days=3))
    async with admin.transaction():
        window = timedelta(hours=48, microseconds=beyond - 1)
        opened = await open_batch(admin, later.parts, keys=later.keys, window=window, late=True)
    assert opened.closed == [closed[1], *([closed[0]] if probed else [])]


async def test_a_clock_that_was_ahead_for_a_moment_turns_no_deduplication_off(
    make_sink: SinkFactory, admin: Admin
) -> None:
    """The roll cannot be taken back: recorded_at stands at the far partition's edge meanwhile."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    far = datetime.now(UTC) + timedelta(days=10)
    await admin.fetchval("SELECT penstock.create_partition($1)", far)
    assert await admin.fetchval("SELECT penstock.roll($1)", far) == "rolled"
    again = await sink.write(batch(claim, [event("a")], first=1, expected=1), reject=refuse)
    assert again.total(Outcome.DUPLICATE) == 1


async def test_a_roll_between_two_writers_lets_no_key_pass_twice(  # type: ignore[no-untyped-def]
    make_sink: SinkFactory, admin: Admin, database: Database, wait_for_async
) -> None:
    """Two workers with one key at a partition's edge: one is inside its transaction while the roll waits."""
    one, two = await make_sink(worker_name="one"), await make_sink(worker_name="two")
    first = (await one.claim([ref(0)]))[ref(0)]
    second = (await two.claim([ref(1)]))[ref(1)]
    await one.write(batch(first, [event("seed")]), reject=refuse)
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_: object) -> None:
        inside.set()
        await go_on.wait()

    # the conflict makes the writer stop inside its transaction, after its COPY
    events = [event("edge", "1"), event("edge", "2")]
    writing = asyncio.create_task(one.write(batch(first, events, first=1, expected=1), reject=hold))
    await asyncio.wait_for(inside.wait(), 10)
    watcher = await asyncpg.connect(database.admin_url)
    try:
        blocked = (
            "SELECT count(*) = $1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
        )
        rolling = asyncio.create_task(_roll_ahead(admin))
        await wait_for_async(lambda: watcher.fetchval(blocked, 1), 10, "the roll to wait")
        other = asyncio.create_task(two.write(batch(second, [event("edge", "1")]), reject=refuse))
        await wait_for_async(lambda: watcher.fetchval(blocked, 2), 10, "a writer to wait behind it")
    finally:
        await watcher.close()
    go_on.set()
    await asyncio.wait_for(asyncio.gather(writing, rolling), 10)
    result = await asyncio.wait_for(other, 10)
    assert result.total(Outcome.DUPLICATE) == 1
    assert await admin.fetchval("SELECT count(*) FROM penstock.events WHERE idempotency_key = 'edge'") == 1


async def test_closing_writes_figures_and_prunes(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    result = await sink.write(batch(claim, [event("a"), event("b")]), reject=refuse)
    closed = await _roll_ahead(admin)
    await sink.write(
        batch(claim, [event("c", occurred_at=1_800_000_000_000_000)], first=2, expected=2), reject=refuse
    )
    assert await partitions.close(admin, closed)
    assert not await partitions.close(admin, closed)
    leaf = next(p for p in await partitions.list_partitions(admin) if p.name == closed)
    assert (leaf.rows, leaf.first_sequence, leaf.last_sequence) == (
        2,
        result.first_sequence,
        result.last_sequence,
    )
    assert leaf.first_occurred_at == leaf.last_occurred_at == datetime.fromtimestamp(1_700_000_000, UTC)
    for condition in (f"sequence > {leaf.last_sequence}", "occurred_at > '2024-06-01'"):
        plan = await admin.fetch(f"EXPLAIN SELECT * FROM penstock.events WHERE {condition}")
        assert closed not in "\n".join(row[0] for row in plan)


_COPY_OF = "INSERT INTO penstock.{0} SELECT * FROM jsonb_populate_record(NULL::penstock.events, $1)"


@pytest.mark.parametrize("through_parent", [False, True])
async def test_a_finished_partition_takes_nothing_more_though_it_be_empty(
    make_sink: SinkFactory, admin: Admin, database: Database, through_parent: bool
) -> None:
    """No read looks into one that is known to be empty."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    left = [await _roll_ahead(admin), await _roll_ahead(admin)]
    writer = await asyncpg.connect(database.writer_url, timeout=10)
    try:
        for leaf in left:
            await partitions.close(admin, leaf)
            row = await admin.fetchval(
                "SELECT to_jsonb(e) || jsonb_build_object('recorded_at', p.lower, 'sequence', 99, 'event_id',"
                " gen_random_uuid(), 'idempotency_key', 'new') FROM penstock.events e, penstock.partitions p"
                " WHERE p.name = $1",
                leaf,
            )
            with pytest.raises(asyncpg.CheckViolationError, match="_bounds"):
                await writer.execute(_COPY_OF.format("events" if through_parent else leaf), row)
    finally:
        await writer.close(timeout=5)


async def test_closing_and_dropping_refuse_what_is_written_to(admin: Admin) -> None:
    names = await partitions.ensure_ahead(admin, 1)
    await partitions.make_current(admin)
    for name in (*names, "events_none"):
        with pytest.raises(PartitionError, match="not closed") as refused:
            await partitions.close(admin, name)
        assert not refused.value.retryable
        with pytest.raises(PartitionError, match="cannot be dropped"):
            await partitions.drop(admin, name)


async def test_dropping_keeps_the_books(make_sink: SinkFactory, admin: Admin, database: Database) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event(), event(), event()]), reject=refuse)
    closed = await _roll_ahead(admin)
    retention = await asyncpg.connect(database.retention_url)
    try:
        with pytest.raises(PartitionError, match="no figures"):
            await partitions.drop(retention, closed)
        await partitions.close(retention, closed)
        assert await partitions.drop(retention, closed) == 3
    finally:
        await retention.close()
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 0
    balance = await admin.fetchrow(
        "SELECT sum(i.stored) AS stored, sum(p.rows) AS expired FROM penstock.ingested i "
        "JOIN penstock.partitions p ON p.name = i.events_partition AND p.state = 'dropped'"
    )
    assert tuple(balance) == (3, 3)


async def test_dropping_gives_way_to_a_long_read(
    admin: Admin, database: Database, make_sink: SinkFactory
) -> None:
    """ACCESS EXCLUSIVE waits for readers, and writers behind it: it gives up, and may be tried again."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    closed = await _roll_ahead(admin)
    await partitions.close(admin, closed)
    reader = await asyncpg.connect(database.reader_url)
    try:
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM penstock.events")
            with pytest.raises(PartitionError) as waiting:
                await partitions.drop(admin, closed)
            assert waiting.value.retryable
            await sink.write(batch(claim, [event()], first=1, expected=1), reject=refuse)
    finally:
        await reader.close()
    assert await partitions.drop(admin, closed) == 1


async def test_making_partitions_waits_for_no_reader_and_no_writer(
    admin: Admin, database: Database, make_sink: SinkFactory
) -> None:
    """pg_partman #678: LIKE and ATTACH, so that an open read of the parent does not hold them up."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    reader = await asyncpg.connect(database.reader_url)
    try:
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM penstock.events")
            await admin.execute("SET lock_timeout = '1s'")
            assert len(await partitions.ensure_ahead(admin, 5)) == 6
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("configured", "secondary"),
    [
        (["full"], {"time", "type", "correlation", "entity", "actor", "payload", "tags", "recorded"}),
        (["lean"], set()),
        (["type", "payload"], {"type", "payload"}),
    ],
)
async def test_a_partition_gets_the_configured_indexes(
    admin: Admin, configured: list[str], secondary: set[str]
) -> None:
    await admin.execute("UPDATE penstock.settings SET leaf_indexes = $1", configured)
    (leaf,) = await partitions.ensure_ahead(admin, 0)
    rows = await admin.fetch("SELECT indexname FROM pg_indexes WHERE tablename = $1", leaf)
    assert {row[0].removeprefix(f"{leaf}_") for row in rows} == secondary | {"sequence", "key", "event_id"}


async def test_an_unknown_index_set_is_refused(admin: Admin) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await admin.execute("UPDATE penstock.settings SET leaf_indexes = '{everything}'")
