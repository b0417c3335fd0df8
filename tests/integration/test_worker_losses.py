"""Offsets that the broker does not have any more, and servers that go away."""

import resource

from fixtures.consuming import SMALL, PipelineFactory
from fixtures.private_servers import PrivatePostgres
from fixtures.waiting import wait_for_async


async def test_expired_offsets_stop_their_partition_alone_until_the_loss_is_accepted(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(2)
    for partition in (0, 1):
        pipeline.produce(pipeline.values(10, start=100 * partition), partition=partition)
    worker = pipeline.start()
    await pipeline.ingested(20)
    await worker.stop()
    for partition in (0, 1):
        pipeline.produce(pipeline.values(20, start=100 * partition + 10), partition=partition)
    pipeline.delete_records(15, partition=0)
    worker = pipeline.start()
    await pipeline.ingested(40)
    await wait_for_async(lambda: bool(worker.health.stopped), 30, "the partition to stop")
    assert worker.metric("penstock_worker_partition_stopped", topic=pipeline.topic, partition="0") == 1
    assert worker.health.ready() == f"waiting for an operator, the log says why: {pipeline.topic}:0"
    await worker.stop()
    assert (await pipeline.books())["lost"] == 0
    worker = pipeline.start(accept_loss=frozenset({f"{pipeline.topic}:0"}))
    await pipeline.ingested(60)
    await worker.stop()
    books = await pipeline.books()
    assert (books["stored"], books["lost"]) == (55, 5)


async def test_offsets_that_expire_under_a_slow_worker_stop_the_partition(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(10))
    worker = pipeline.start()
    await pipeline.ingested(10)
    await worker.stop()
    pipeline.produce(pipeline.values(20, start=10))
    pipeline.delete_records(30)
    worker = pipeline.start()
    await wait_for_async(lambda: bool(worker.health.stopped), 30, "the partition to stop")
    await worker.stop()
    assert (await pipeline.books())["stored"] == 10


async def test_a_recreated_topic_stops_the_partition_until_the_loss_is_accepted(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(10))
    worker = pipeline.start()
    await pipeline.ingested(10)
    await worker.stop()
    pipeline.recreate_topic()
    pipeline.produce(pipeline.values(30, start=50))
    worker = pipeline.start()
    await wait_for_async(lambda: bool(worker.health.stopped), 30, "the partition to stop")
    await worker.stop()
    assert len(await pipeline.keys()) == 10
    worker = pipeline.start(accept_loss=frozenset({"*"}))
    await pipeline.ingested(40)
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in [*range(10), *range(50, 80)]]


async def test_a_topic_recreated_under_a_running_worker_is_not_taken_for_the_old_one(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(10))
    worker = pipeline.start()
    await pipeline.ingested(10)
    pipeline.recreate_topic()
    pipeline.produce(pipeline.values(5, start=50))
    await wait_for_async(lambda: bool(worker.health.stopped), 60, "the partition to stop")
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(10)]


async def test_postgresql_away_is_waited_out_as_a_member_in_bounded_memory(
    make_pipeline: PipelineFactory, private_postgres: PrivatePostgres
) -> None:
    pipeline = make_pipeline(2)
    pipeline.url = private_postgres.url
    pipeline.produce(pipeline.values(500))
    worker = pipeline.start(dsn=private_postgres.writer_url, batch=SMALL, pause_after=0.2)
    await pipeline.ingested(500)
    private_postgres.kill()
    pipeline.produce(pipeline.values(20_000, start=500))
    await wait_for_async(
        lambda: worker.metric("penstock_worker_partitions", state="paused") == 2, 60, "the pause"
    )
    assert worker.health.ready() == "PostgreSQL does not take batches"
    assert worker.health.live() is None
    assert worker.metric("penstock_worker_records_total", topic=pipeline.topic) <= 500 + 2 * 500
    assert worker.metric("penstock_worker_buffered_records") <= 2 * 500, "a batch, and the one being written"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    private_postgres.start()
    await pipeline.ingested(20_500, 60)
    assert worker.metric("penstock_worker_rebalances_total", kind="assigned") == 1, "it never left the group"
    assert worker.metric("penstock_worker_rebalances_total", kind="lost") == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 150_000
    await worker.stop()
    keys = await pipeline.keys()
    assert len(keys) == len(set(keys)) == 20_500
    assert (await pipeline.books())["duplicate"] == 0


async def test_postgresql_away_at_the_start_is_waited_out(
    make_pipeline: PipelineFactory, private_postgres: PrivatePostgres
) -> None:
    pipeline = make_pipeline(1)
    pipeline.url = private_postgres.url
    pipeline.produce(pipeline.values(10))
    private_postgres.stop()
    worker = pipeline.start(dsn=private_postgres.writer_url)
    await wait_for_async(
        lambda: worker.metric("penstock_worker_retries_total", operation="claim") >= 2, 30, "claims"
    )
    assert worker.health.live() is None
    private_postgres.start()
    await pipeline.ingested(10)
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(10)]
