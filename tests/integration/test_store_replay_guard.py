"""What the database itself refuses a replay, whatever the process believes."""

from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from penstock_store.errors import FenceLost
from penstock_store.ingest import Claim, SinkSettings
from penstock_store.ingest.replay import ReplayRequest, ReplaySink

REF = ref()


@pytest.fixture
async def replay(database: Database) -> Any:
    """An open replay of the group of `make_sink`."""
    sink = ReplaySink(SinkSettings(dsn=database.writer_url, group_id="group"))
    await sink.open()
    await sink.begin(ReplayRequest(bounds={REF: (0, 100)}, asked="test", records=0))
    yield sink
    await sink.close()


async def _placed(admin: Any, replay: ReplaySink, offset: int) -> Claim:
    """A claim that stands at an offset, as if a gap began there."""
    claim = (await replay.claim([REF]))[REF]
    await admin.execute(
        "UPDATE penstock.offsets SET next_offset = $1 WHERE group_id = 'group!replay'", offset
    )
    return Claim(group_id=claim.group_id, ref=REF, epoch=claim.epoch, position=offset)


async def test_it_writes_only_below_the_worker_and_outside_of_the_books(
    make_sink: SinkFactory, replay: ReplaySink, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    worker = await make_sink()
    live = (await worker.claim([REF]))[REF]
    await worker.write(batch(live, [event() for _ in range(50)]), reject=refuse)
    await admin.execute("DELETE FROM penstock.ingested")
    await admin.execute(
        "INSERT INTO penstock.ingested (group_id, cluster_id, topic, topic_id, partition, first_offset, "
        "next_offset, stored) VALUES ('group', $1, $2, $3, $4, 20, 30, 10)",
        *REF,
    )
    for first, count in ((0, 21), (25, 3), (29, 5), (10, 30), (45, 6), (50, 1), (60, 5)):
        claim = await _placed(admin, replay, first)
        with pytest.raises(FenceLost):
            await replay.write(batch(claim, [event() for _ in range(count)]), reject=refuse)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 50
    for first, count in ((0, 20), (30, 20)):
        claim = await _placed(admin, replay, first)
        await replay.write(batch(claim, [event() for _ in range(count)]), reject=refuse)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 90
    assert await admin.fetchval("SELECT sum(next_offset - first_offset) FROM penstock.ingested") == 50
    # and the worker goes on where it was
    await worker.write(batch(live, [event()], first=50, expected=50), reject=refuse)


async def test_a_range_of_losses_is_cut_where_its_records_come_after_all(
    make_sink: SinkFactory, replay: ReplaySink, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    worker = await make_sink()
    await worker.skip((await worker.claim([REF]))[REF], 0, 40, "latest")
    claim = await _placed(admin, replay, 10)
    await replay.write(batch(claim, [event() for _ in range(5)]), reject=refuse)
    rows = await admin.fetch(
        "SELECT first_offset, next_offset, stored, lost FROM penstock.ingested ORDER BY first_offset"
    )
    assert [tuple(row) for row in rows] == [(0, 10, 0, 10), (10, 15, 5, 0), (15, 40, 0, 25)]


async def test_the_books_of_what_is_kept_cannot_be_opened(
    make_sink: SinkFactory, database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    worker = await make_sink()
    await worker.write(batch((await worker.claim([REF]))[REF], [event()]), reject=refuse)
    writer = await asyncpg.connect(database.writer_url, timeout=10)
    opened = await writer.fetchval("SELECT penstock.reopen_expired('group', $1, $2, $3, $4, 0)", *REF)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await writer.execute("DELETE FROM penstock.ingested")
    await writer.close()
    assert opened is None
    assert await admin.fetchval("SELECT count(*) FROM penstock.ingested") == 1


async def test_a_run_that_lost_its_partition_takes_nothing_out_of_the_books(
    make_sink: SinkFactory, database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    worker = await make_sink()
    live = (await worker.claim([REF]))[REF]
    await worker.write(batch(live, [event() for _ in range(5)]), reject=refuse)
    await admin.execute("UPDATE penstock.partitions SET state = 'dropped' WHERE state = 'current'")
    older = ReplaySink(SinkSettings(dsn=database.writer_url, group_id="group"))
    newer = ReplaySink(SinkSettings(dsn=database.writer_url, group_id="group"))
    for sink in (older, newer):
        await sink.open()
        await sink.begin(
            ReplayRequest(bounds={REF: (0, 100)}, asked="test", records=0, expired=True), take_over=True
        )
    lost = (await older.claim([REF]))[REF]
    claim = (await newer.claim([REF]))[REF]
    with pytest.raises(FenceLost):
        await older.next_gap(lost, 0, 100, low=0)
    assert await admin.fetchval("SELECT sum(stored) FROM penstock.ingested") == 5
    gap = await newer.next_gap(claim, 0, 100, low=0)
    assert gap is not None
    assert (gap.first, gap.next) == (0, 5)
    assert await admin.fetchval("SELECT count(*) FROM penstock.ingested") == 0
    for sink in (older, newer):
        await sink.close()
