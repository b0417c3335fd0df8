"""A batch in the broker's log that fails its checksum: the client tells an error and goes on behind it."""

from pathlib import Path

from fixtures.consuming import PipelineFactory
from fixtures.private_servers import PrivateKafka
from fixtures.waiting import wait_for_async
from penstock_consumer.topics import ensure_topics


async def test_a_batch_that_cannot_be_read_is_not_passed_over(
    make_pipeline: PipelineFactory, private_kafka: PrivateKafka, tmp_path: Path
) -> None:
    pipeline = make_pipeline(1)
    pipeline.kafka = private_kafka.bootstrap_servers
    await ensure_topics(pipeline.settings(partitions=1))
    for start in (0, 10, 20):  # a batch each
        pipeline.produce(pipeline.values(10, start=start))
    private_kafka.stop()
    (log,) = (tmp_path / "kafka" / "data" / f"{pipeline.topic}-0").glob("*.log")
    log.write_bytes(log.read_bytes().replace(b"k15", b"k51", 1))
    private_kafka.start()
    worker = pipeline.start()
    await wait_for_async(lambda: bool(worker.health.stopped), 30, "the partition to stop")
    await worker.stop()
    assert (await pipeline.keys())[10:] == []
    assert (await pipeline.books())["stored"] in (0, 10)


async def test_a_log_that_was_truncated_and_grew_again_is_not_taken_for_the_old_one(
    make_pipeline: PipelineFactory, private_kafka: PrivateKafka, tmp_path: Path
) -> None:
    pipeline = make_pipeline(1)
    pipeline.kafka = private_kafka.bootstrap_servers
    await ensure_topics(pipeline.settings(partitions=1))
    pipeline.produce(pipeline.values(10))
    worker = pipeline.start()
    await pipeline.ingested(10)
    await worker.stop()
    private_kafka.kill()
    folder = tmp_path / "kafka" / "data" / f"{pipeline.topic}-0"
    for file in [*folder.glob("0*"), folder / "leader-epoch-checkpoint"]:  # a leader that had none of it
        file.unlink()
    private_kafka.start()
    pipeline.produce(pipeline.values(30, start=50))
    worker = pipeline.start()
    await wait_for_async(lambda: bool(worker.health.stopped), 30, "the partition to stop")
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(10)]
