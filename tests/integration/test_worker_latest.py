"""`start=latest` on real servers: what comes after the first start is ingested, whenever a worker runs."""

from fixtures.consuming import PipelineFactory
from fixtures.waiting import wait_for_async


async def test_what_comes_to_an_empty_partition_between_two_workers_is_ingested(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    worker = pipeline.start(start="latest")

    async def placed() -> bool:
        rows = await pipeline.rows("SELECT next_offset FROM penstock.offsets")
        return [row["next_offset"] for row in rows] == [0]

    await wait_for_async(placed, 30, "the position of the empty partition")
    await worker.stop()
    pipeline.produce(pipeline.values(10))
    worker = pipeline.start(start="latest")
    await pipeline.ingested(10)
    await worker.stop()
    assert await pipeline.keys() == [f"k{number}" for number in range(10)]
    assert (await pipeline.books())["lost"] == 0


async def test_a_partition_that_is_added_is_ingested_from_its_beginning(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(5))
    worker = pipeline.start(start="latest")
    await pipeline.ingested(5)
    await worker.stop()
    pipeline.add_partition()
    pipeline.produce(pipeline.values(10, start=5), partition=1)
    worker = pipeline.start(start="latest")
    await pipeline.ingested(15)
    await worker.stop()
    books = await pipeline.books()
    assert (books["lost"], books["stored"]) == (5, 10)
