"""Replays on real servers: they fill what the books lack below the worker's position, and nothing else."""

import asyncio

import asyncpg
import pytest
from confluent_kafka import Producer

from fixtures.consuming import SMALL, Pipeline, PipelineFactory, event
from fixtures.replaying import refs, start_replay
from penstock_consumer.errors import ReplayTakenOver
from penstock_consumer.replay import ReplayEnd

WHOLE = (0, 1 << 62)


async def _forget(pipeline: Pipeline, *, events: bool) -> None:
    """As a restore that lost the books, and perhaps the events: the positions are still there."""
    await pipeline.rows("DELETE FROM penstock.ingested")
    if events:
        await pipeline.rows("TRUNCATE penstock.events")


async def _ranges(pipeline: Pipeline) -> list[tuple[int, int, int]]:
    rows = await pipeline.rows(
        "SELECT partition, first_offset, next_offset FROM penstock.ingested ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_an_emptied_store_is_filled_again_with_the_same_outcomes(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(2)
    values = pipeline.values(900)
    conflict = pipeline.encode(event(3, payload={"n": "other"}))
    pipeline.produce([*values, *values[:50], ("e3", conflict), ("e1", b"bad"), ("e2", None)])
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(953)
    await worker.stop()
    before, books = await pipeline.keys(), await pipeline.books()
    await _forget(pipeline, events=True)
    replay = start_replay(pipeline, dict.fromkeys(refs(pipeline, 2), WHOLE), batch=SMALL)
    assert await replay.end() is ReplayEnd.FINISHED
    assert sorted(await pipeline.keys()) == sorted(before)
    assert await pipeline.books() == books
    assert {letter.reason for letter in replay.letters.seen} == {"too_short", "key_conflict"}


async def test_events_that_are_kept_are_not_stored_twice_though_the_books_are_gone(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(300))
    worker = pipeline.start()
    await pipeline.ingested(300)
    await worker.stop()
    await _forget(pipeline, events=False)
    assert await start_replay(pipeline, dict.fromkeys(refs(pipeline, 1), WHOLE)).end() is ReplayEnd.FINISHED
    assert await pipeline.keys() == [f"k{n}" for n in range(300)]
    assert (await pipeline.books())["duplicate"] == 300


async def test_nothing_is_read_where_the_books_have_everything(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(20))
    worker = pipeline.start()
    await pipeline.ingested(20)
    await worker.stop()
    pipeline.produce(pipeline.values(5, start=20))  # the worker's, which will come
    replay = start_replay(pipeline, dict.fromkeys(refs(pipeline, 1), WHOLE))
    assert await replay.end() is ReplayEnd.FINISHED
    assert replay.written == []
    assert len(await pipeline.keys()) == 20


async def test_without_a_position_everything_is_the_worker_s(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(20))
    assert await start_replay(pipeline, dict.fromkeys(refs(pipeline, 1), WHOLE)).end() is ReplayEnd.FINISHED
    assert await pipeline.keys() == []


async def test_what_was_passed_over_at_the_start_is_brought_in_later_and_is_lost_no_more(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(100))
    worker = pipeline.start(start="latest")
    await pipeline.ingested(100)
    assert (await pipeline.books())["lost"] == 100
    (ref,) = refs(pipeline, 1)
    replay = start_replay(pipeline, {ref: (20, 60)}, batch=SMALL)
    assert await replay.end() is ReplayEnd.FINISHED
    assert await pipeline.keys() == [f"k{n}" for n in range(20, 60)]
    books = await pipeline.books()
    assert (books["stored"], books["lost"]) == (40, 60)
    assert await _ranges(pipeline) == [(0, 0, 20), (0, 20, 60), (0, 60, 100)]
    pipeline.produce(pipeline.values(10, start=100))
    await pipeline.ingested(110)
    await worker.stop()
    assert (await pipeline.keys())[-1] == "k109"


async def test_beside_a_live_worker_nothing_is_lost_or_twice_and_each_keeps_its_order(
    make_pipeline: PipelineFactory,
) -> None:
    """The replay is cut off again and again without a drain, as if it were killed, and begins anew."""
    pipeline = make_pipeline(3)
    pipeline.produce(pipeline.values(6000))
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(6000)
    await _forget(pipeline, events=True)
    bounds = dict.fromkeys(refs(pipeline, 3), WHOLE)
    live = 6000
    while True:
        replay = start_replay(pipeline, bounds, batch=SMALL, take_over=True)
        pipeline.produce(pipeline.values(300, start=live))
        live += 300
        await replay.batches(2)
        if replay.task.done():
            break
        replay.task.cancel()
        await asyncio.wait({replay.task})
    assert await replay.end() is ReplayEnd.FINISHED
    assert live > 6900, "it was cut off at least twice"
    await pipeline.ingested(live)
    await worker.stop()
    keys = await pipeline.keys()
    assert sorted(keys) == sorted(f"k{n}" for n in range(live))
    assert (await pipeline.books())["stored"] == live
    for part in (range(6000), range(6000, live)):
        for entity in range(7):
            numbers = [int(key[1:]) for key in keys if int(key[1:]) in part and int(key[1:]) % 7 == entity]
            assert numbers == sorted(numbers)


async def test_keys_that_replay_and_worker_bring_at_once_are_stored_once_though_the_partition_rolls(
    make_pipeline: PipelineFactory, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    pipeline = make_pipeline(2)
    values = pipeline.values(4000)
    pipeline.produce(values, partition=0)
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(4000)
    await _forget(pipeline, events=True)
    await admin.execute("SELECT penstock.ensure_partitions(3)")
    bounds = {refs(pipeline, 2)[0]: WHOLE}
    pipeline.produce(values, partition=1)  # a producer's retry of everything
    replay = start_replay(pipeline, bounds, batch=SMALL)
    for day in (1, 2):
        await replay.batches(3 * day)
        await admin.execute(f"SELECT penstock.roll(clock_timestamp() + interval '{day} day')")
    await replay.end()
    await pipeline.ingested(8000)
    await worker.stop()
    books = await pipeline.books()
    assert sorted(await pipeline.keys()) == sorted(f"k{n}" for n in range(4000))
    assert (books["stored"], books["duplicate"]) == (4000, 4000)


async def test_a_newer_run_ends_the_older_one(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(400))
    worker = pipeline.start()
    await pipeline.ingested(400)
    await worker.stop()
    await _forget(pipeline, events=True)
    bounds = dict.fromkeys(refs(pipeline, 1), WHOLE)
    slow = start_replay(pipeline, bounds, rate=20)
    await slow.batches(1)
    with pytest.raises(Exception, match="replay 1 "):
        await start_replay(pipeline, bounds).end()
    assert await start_replay(pipeline, bounds, take_over=True).end() is ReplayEnd.FINISHED
    with pytest.raises(ReplayTakenOver, match="another replay"):
        await slow.end()
    assert await pipeline.keys() == [f"k{n}" for n in range(400)]
    states = await pipeline.rows("SELECT state, stored FROM penstock.replays ORDER BY id")
    assert [row["state"] for row in states] == ["failed", "finished"]
    assert sum(row["stored"] for row in states) == 400


async def test_a_stop_keeps_what_is_written_and_the_next_run_goes_on(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(300))
    worker = pipeline.start()
    await pipeline.ingested(300)
    await worker.stop()
    await _forget(pipeline, events=True)
    bounds = dict.fromkeys(refs(pipeline, 1), WHOLE)
    replay = start_replay(pipeline, bounds, rate=50)
    await replay.batches(1)
    replay.stopping.set()
    assert await replay.end() is ReplayEnd.STOPPED
    stored = len(await pipeline.keys())
    assert 0 < stored < 300
    assert await start_replay(pipeline, bounds).end() is ReplayEnd.FINISHED
    assert await pipeline.keys() == [f"k{n}" for n in range(300)]


async def test_a_gap_that_ends_in_offsets_without_records_is_closed(make_pipeline: PipelineFactory) -> None:
    """Transactions leave markers: the last of them is no record, and the books must not call it missing."""
    pipeline = make_pipeline(1)
    producer = Producer({"bootstrap.servers": pipeline.kafka, "transactional.id": f"tx-{pipeline.topic}"})
    producer.init_transactions(30)
    for aborted in (False, True, False, True):
        producer.begin_transaction()
        for key, value in pipeline.values(10, start=1000 if aborted else 0):
            producer.produce(pipeline.topic, key=key, value=value)
        assert producer.flush(30) == 0
        (producer.abort_transaction if aborted else producer.commit_transaction)(30)
    pipeline.produce(pipeline.values(1, start=50))
    worker = pipeline.start()
    await pipeline.ingested(21)
    await worker.stop()
    before = await pipeline.books()
    (ref,) = refs(pipeline, 1)
    await _forget(pipeline, events=True)
    # ends before an aborted transaction's last record: nothing of it is ever seen
    for bounds in ((0, 42), (42, 44), WHOLE):
        assert await start_replay(pipeline, {ref: bounds}).end() is ReplayEnd.FINISHED
        rest = start_replay(pipeline, {ref: bounds})
        assert await rest.end() is ReplayEnd.FINISHED
        assert rest.written == [], "nothing is left to read"
    assert await pipeline.books() == before
    ranges = await _ranges(pipeline)
    assert (ranges[0][1], ranges[-1][2]) == (0, 45)


async def test_what_retention_dropped_comes_back_only_when_asked_for(
    make_pipeline: PipelineFactory, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(50))
    worker = pipeline.start()
    await pipeline.ingested(50)
    await worker.stop()
    leaf = await admin.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await admin.execute("SELECT penstock.ensure_partitions(2)")
    await admin.execute("SELECT penstock.roll(clock_timestamp() + interval '1 day')")
    await admin.execute(f"SELECT penstock.close_partition('{leaf}')")
    await admin.execute(f"SELECT penstock.drop_partition('{leaf}')")
    (ref,) = refs(pipeline, 1)
    replay = start_replay(pipeline, {ref: WHOLE})
    assert await replay.end() is ReplayEnd.FINISHED
    assert replay.written == []
    assert await pipeline.keys() == []
    part = start_replay(pipeline, {ref: (10, 50)}, expired=True)
    assert await part.end() is ReplayEnd.FINISHED
    assert part.written == [], "a range is read again as a whole or not at all"
    assert await start_replay(pipeline, {ref: WHOLE}, expired=True).end() is ReplayEnd.FINISHED
    assert await pipeline.keys() == [f"k{n}" for n in range(50)]
    assert (await pipeline.books())["stored"] == 50
    again = start_replay(pipeline, {ref: WHOLE}, expired=True)
    assert await again.end() is ReplayEnd.FINISHED
    assert again.written == []
    runs = await pipeline.rows("SELECT reopened, stored FROM penstock.replays ORDER BY id")
    assert [tuple(row) for row in runs] == [(0, 0), (0, 0), (50, 50), (0, 0)]
