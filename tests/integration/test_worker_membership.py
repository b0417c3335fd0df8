"""Several workers, stolen and revoked partitions, stops and deaths, on real Kafka and PostgreSQL."""

import asyncio
import threading
from collections import defaultdict
from typing import Any

import pytest

from fixtures.consuming import SMALL, Pipeline, PipelineFactory
from fixtures.waiting import wait_for_async
from penstock_consumer import kafka_source
from penstock_store.ingest import PartitionRef, PostgresSink, SinkSettings

COUNT = 4000


async def check(pipeline: Pipeline, count: int = COUNT) -> None:
    keys = await pipeline.keys()
    assert len(keys) == len(set(keys)), "stored twice"
    assert set(keys) == {f"k{n}" for n in range(count)}, "lost"
    entities: dict[int, list[int]] = defaultdict(list)
    for key in keys:
        entities[int(key[1:]) % 7].append(int(key[1:]))
    assert all(numbers == sorted(numbers) for numbers in entities.values()), "out of order"


async def feed(pipeline: Pipeline, count: int = COUNT, step: int = 200) -> None:
    """Emit in small portions, so that rebalances meet a moving stream."""
    for start in range(0, count, step):
        await asyncio.to_thread(pipeline.produce, pipeline.values(step, start=start))


@pytest.mark.parametrize("protocol", [{}, {"group.protocol": "consumer"}], ids=["cooperative", "kip848"])
async def test_workers_join_leave_and_break_off_in_the_stream(
    make_pipeline: PipelineFactory, protocol: dict[str, Any]
) -> None:
    pipeline = make_pipeline(4)
    kafka = protocol or {"session.timeout.ms": 6000}
    feeding = asyncio.create_task(feed(pipeline))
    first = pipeline.start(batch=SMALL, kafka=kafka)
    await pipeline.ingested(200)
    second = pipeline.start(batch=SMALL, kafka=kafka)
    await wait_for_async(
        lambda: second.metric("penstock_worker_partitions", state="assigned") >= 1, 30, "a share"
    )
    third = pipeline.start(batch=SMALL, kafka=kafka)
    await wait_for_async(
        lambda: third.metric("penstock_worker_partitions", state="assigned") >= 1, 30, "a share"
    )
    await first.stop()
    await second.abort()
    await feeding
    await pipeline.ingested(COUNT, 60)
    await third.stop()
    await check(pipeline)
    assert (await pipeline.books())["duplicate"] == 0, (
        "a drained or fenced batch was read again from its position"
    )


async def test_a_partition_stolen_by_a_claim_is_given_up_and_read_from_the_thiefs_position(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(100))
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(100)
    row = (await pipeline.rows("SELECT * FROM penstock.offsets"))[0]
    ref = PartitionRef(row["cluster_id"], row["topic"], row["topic_id"], row["partition"])
    thief = PostgresSink(SinkSettings(dsn=pipeline.database.writer_url, group_id=pipeline.group))
    await thief.open()
    await thief.claim([ref])
    pipeline.produce(pipeline.values(100, start=100))
    await pipeline.ingested(200)
    await thief.close()
    assert worker.metric("penstock_worker_fence_lost_total", topic=pipeline.topic) == 1
    await worker.stop()
    await check(pipeline, 200)


async def test_a_worker_that_stopped_polling_loses_its_partitions_and_commits_nothing_of_them(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(100))
    worker = pipeline.start(batch=SMALL, kafka={"max.poll.interval.ms": 6000, "session.timeout.ms": 6000})
    await pipeline.ingested(100)
    other = pipeline.start(batch=SMALL)
    # the other waits for the only partition; the first one's fetches block, as of a process swapped out
    stalled = asyncio.Event()
    await _stall_impatient(stalled)
    pipeline.produce(pipeline.values(100, start=100))
    await pipeline.ingested(200, 60)
    stalled.set()
    await wait_for_async(
        lambda: worker.metric("penstock_worker_rebalances_total", kind="lost") == 1, 30, "the loss"
    )
    await worker.stop()
    await other.stop()
    await check(pipeline, 200)


async def _stall_impatient(until: asyncio.Event) -> None:
    """Keep the source thread of the worker with a short poll interval busy, so that it does not poll."""
    loop = asyncio.get_running_loop()
    entered, original = threading.Event(), kafka_source.KafkaSource._fetch

    def stall(self: Any, *args: Any) -> Any:
        if "max.poll.interval.ms" in self._settings.kafka and not until.is_set():
            entered.set()
            asyncio.run_coroutine_threadsafe(until.wait(), loop).result(60)
        return original(self, *args)

    kafka_source.KafkaSource._fetch = stall  # type: ignore[method-assign]
    try:
        await wait_for_async(entered.is_set, 30, "the stall")
    finally:
        kafka_source.KafkaSource._fetch = original  # type: ignore[method-assign]


async def test_a_stop_in_full_stream_loses_and_repeats_nothing(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(2)
    await feed(pipeline)
    for goal in (500, 1500, COUNT):
        worker = pipeline.start(batch=SMALL)
        await pipeline.ingested(goal)
        await worker.stop()
    await check(pipeline)
    assert (await pipeline.books())["duplicate"] == 0


async def test_an_aborted_worker_is_followed_by_another_that_repeats_nothing(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(2)
    await feed(pipeline)
    for goal in (300, 900, 1500):
        worker = pipeline.start(batch=SMALL)
        await pipeline.ingested(goal)
        await worker.abort()
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(COUNT)
    await worker.stop()
    await check(pipeline)
    assert (await pipeline.books())["duplicate"] == 0
