"""What a plan says: words become offsets by what the broker has, and the books say what is left to do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fixtures.consuming import Pipeline, PipelineFactory
from penstock.errors import InputError
from penstock.replay.plan import Asked, Plan, make_plan
from penstock.settings import Settings
from penstock_store.ingest.segments import Kind, Segment


async def _plan(pipeline: Pipeline, span: str = "start", **asked: Any) -> Plan:
    settings = Settings(kafka_bootstrap_servers=pipeline.kafka)
    wanted = Asked(topics=[pipeline.topic], group_id=pipeline.group, span=span, **asked)
    return await make_plan(settings, pipeline.database.reader_url, wanted)


async def _bounds(pipeline: Pipeline, span: str) -> tuple[int, int]:
    (part,) = (await _plan(pipeline, span)).parts
    return part.log.first, part.log.next


async def test_words_become_offsets(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1, config={"message.timestamp.type": "LogAppendTime"})
    pipeline.produce(pipeline.values(40))
    between = datetime.now(UTC)
    # what comes later is stamped later: the broker's clock is this machine's, in milliseconds
    while datetime.now(UTC) - between < timedelta(milliseconds=5):
        pass
    pipeline.produce(pipeline.values(20, start=40))
    pipeline.delete_records(10)
    stamp = (between + timedelta(milliseconds=2)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    wanted = {
        "start": (0, 60),  # also what the broker has no longer: the books may have it
        "end": (60, 60),
        "20:30": (20, 30),
        "5": (5, 60),
        ":1000": (0, 60),
        "+5": (15, 60),
        "-5": (55, 60),
        f"@{stamp}": (40, 60),
        f"@:{stamp}": (0, 40),
        "@-1h:-30m": (10, 10),
        "@-1h": (10, 60),
        f"@-1h:{stamp}": (10, 40),
    }
    assert {span: await _bounds(pipeline, span) for span in wanted} == wanted


async def test_each_offset_is_said_to_be_what_it_is(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(2)
    pipeline.produce(pipeline.values(100), partition=0)
    plan = await _plan(pipeline)
    assert plan.to_read == 0
    assert [ref.partition for ref in plan.unplaced] == [0]
    assert plan.width(Kind.AHEAD) == 100
    worker = pipeline.start()
    await pipeline.ingested(100)
    await worker.stop()
    pipeline.produce(pipeline.values(10, start=100), partition=0)
    await pipeline.rows("DELETE FROM penstock.ingested")
    await pipeline.rows(
        "INSERT INTO penstock.ingested (group_id, cluster_id, topic, topic_id, partition, first_offset, "
        "next_offset, stored) SELECT group_id, cluster_id, topic, topic_id, partition, 40, 60, 20 "
        "FROM penstock.offsets WHERE partition = 0"
    )
    pipeline.delete_records(10)
    part, empty = (await _plan(pipeline)).parts
    assert part.segments == [
        Segment(0, 10, Kind.GONE),
        Segment(10, 40, Kind.MISSING),
        Segment(40, 60, Kind.INGESTED),
        Segment(60, 100, Kind.MISSING),
        Segment(100, 110, Kind.AHEAD),
    ]
    assert part.to_read == 70
    assert empty.segments == []
    assert [part.ref.partition for part in (await _plan(pipeline, partitions=[1])).parts] == [1]
    with pytest.raises(InputError, match="has no partition 2: it has 2"):
        await _plan(pipeline, partitions=[2])
