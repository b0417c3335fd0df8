"""SIGTERM ends a worker, and a replay, within its grace period, whatever does not answer."""

import asyncio

from fixtures.consuming import SMALL, PipelineFactory
from fixtures.private_servers import PrivateKafka
from fixtures.replaying import refs, start_replay
from fixtures.tcp_proxy import proxied
from fixtures.waiting import wait_for_async
from penstock_consumer import ExitReason
from penstock_consumer.replay import ReplayEnd
from penstock_consumer.topics import ensure_topics


async def test_a_worker_whose_servers_all_went_silent_stops_in_time(
    make_pipeline: PipelineFactory, private_kafka: PrivateKafka
) -> None:
    pipeline = make_pipeline(1)
    pipeline.kafka = private_kafka.bootstrap_servers
    await ensure_topics(pipeline.settings(partitions=1))
    with proxied(pipeline.database.writer_url) as database:
        worker = pipeline.start(
            bootstrap_servers=f"127.0.0.1:{private_kafka.link.port}",
            dsn=database.url(pipeline.database.writer_url),
            batch=SMALL,
            grace=4.0,
        )
        pipeline.produce(pipeline.values(10))
        await pipeline.ingested(10)
        database.blackhole()
        pipeline.produce(pipeline.values(2000, start=10))
        taken = {"topic": pipeline.topic}
        await wait_for_async(
            lambda: worker.metric("penstock_worker_records_total", **taken) > 10, 30, "a batch that hangs"
        )
        private_kafka.link.blackhole()
        # its grace and what is granted beyond, where each call's own deadline came after the other
        stopping = asyncio.create_task(worker.stop())
        done, _ = await asyncio.wait({stopping}, timeout=15)
        assert done, "the worker runs on"
        assert stopping.result() is ExitReason.ASKED


async def test_a_replay_whose_database_went_silent_stops_in_time(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(2000))
    worker = pipeline.start()
    await pipeline.ingested(2000)
    await worker.stop()
    await pipeline.rows("DELETE FROM penstock.ingested")
    (ref,) = refs(pipeline, 1)
    with proxied(pipeline.database.writer_url) as database:
        replay = start_replay(
            pipeline,
            {ref: (0, 2000)},
            rate=200,
            dsn=database.url(pipeline.database.writer_url),
            batch=SMALL,
            grace=3.0,
        )
        await replay.batches(1)
        database.blackhole()
        replay.stopping.set()
        done, _ = await asyncio.wait({replay.task}, timeout=12)
        assert done, "the replay runs on"
        assert replay.task.result() is ReplayEnd.STOPPED
