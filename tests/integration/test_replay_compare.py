"""A store rebuilt from its topic equals it, by content; what does not is found and named."""

from typing import Any

import asyncpg
import pytest

from fixtures.consuming import SMALL, Pipeline, PipelineFactory, event
from fixtures.databases import Database
from fixtures.replaying import run
from penstock.errors import InputError
from penstock.replay.compare import Comparison, compare
from penstock.replay.plan import Asked, make_plan
from penstock.replay.scratch import prepare
from penstock.settings import Settings
from penstock_consumer.replay import ReplayEnd
from penstock_consumer.replay.letters import NewLetters, NoLetters


async def _mixed(pipeline: Pipeline) -> None:
    """Good, repeated, contradicting, undecodable records and a tombstone; all ingested."""
    values = pipeline.values(700)
    bad = [(f"e{n % 7}", b"\7 no event" + bytes([n])) for n in range(20)]
    other = [(f"e{n % 7}", pipeline.encode(event(n, payload={"n": "other"}))) for n in range(30)]
    pipeline.produce([*values[:400], *bad, *values[100:200], *other, ("e1", None), *values[400:]])
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(700 + 20 + 100 + 30 + 1)
    await worker.stop()


async def _rebuild(pipeline: Pipeline, into: str, span: str = "start") -> ReplayEnd:
    settings = Settings(kafka_bootstrap_servers=pipeline.kafka)
    asked = Asked(topics=[pipeline.topic], group_id=pipeline.group, span=span)
    plan = await prepare(settings, pipeline.database.reader_url, into, asked)
    return await run(pipeline, plan.request(), NoLetters(), dsn=into)


async def _compared(pipeline: Pipeline, into: str) -> Comparison:
    return await compare(pipeline.database.reader_url, into)


async def _books(url: str) -> Any:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetch(
            "SELECT partition, sum(stored), sum(duplicate), sum(conflict), sum(dead_lettered), "
            "sum(tombstone) FROM penstock.ingested GROUP BY partition ORDER BY partition"
        )
    finally:
        await connection.close()


async def test_a_rebuild_equals_the_original_and_makes_no_dead_letter_again(
    make_pipeline: PipelineFactory, empty_database: Database
) -> None:
    pipeline = make_pipeline(3)
    await _mixed(pipeline)
    assert len(pipeline.dead_letters(50)) == 50
    assert await _rebuild(pipeline, empty_database.url) is ReplayEnd.FINISHED
    found = await _compared(pipeline, empty_database.url)
    assert (found.equal, found.only_in_store, found.differences.total()) == (700, 0, 0)
    assert await _books(empty_database.url) == await _books(pipeline.url)
    assert len(pipeline.dead_letters(50)) == 50
    # a worker on the rebuilt store goes on where that ends
    pipeline.url = empty_database.url
    pipeline.produce(pipeline.values(10, start=700))
    worker = pipeline.start(dsn=empty_database.url)
    await pipeline.ingested(861)
    await worker.stop()
    assert len(await pipeline.keys()) == 710


async def test_what_differs_is_found_and_named(
    make_pipeline: PipelineFactory, empty_database: Database
) -> None:
    pipeline = make_pipeline(1)
    await _mixed(pipeline)
    await pipeline.rows("UPDATE penstock.events SET payload = '{}' WHERE idempotency_key = 'k5'")
    await pipeline.rows(
        "UPDATE penstock.events SET occurred_at = occurred_at + interval '1 microsecond', actor_id = '' "
        "WHERE idempotency_key = 'k6'"
    )
    await pipeline.rows("DELETE FROM penstock.events WHERE idempotency_key = 'k7'")
    await pipeline.rows("UPDATE penstock.events SET idempotency_key = 'new' WHERE idempotency_key = 'k8'")
    assert await _rebuild(pipeline, empty_database.url) is ReplayEnd.FINISHED
    found = await _compared(pipeline, empty_database.url)
    assert found.equal == 696
    assert found.only_in_store == 1
    assert {(item.idempotency_key, item.kind, tuple(item.columns)) for item in found.listed} == {
        ("k5", "different", ("payload",)),
        ("k6", "different", ("occurred_at", "actor_id")),
        ("k7", "missing", ()),
        ("k8", "missing", ()),
    }


async def test_a_part_is_compared_alone_and_a_scratch_serves_one_rebuild(
    make_pipeline: PipelineFactory, empty_database: Database
) -> None:
    pipeline = make_pipeline(1)
    await _mixed(pipeline)
    assert await _rebuild(pipeline, empty_database.url, "50:250") is ReplayEnd.FINISHED
    found = await _compared(pipeline, empty_database.url)
    assert (found.equal, found.only_in_store, found.differences.total()) == (200, 500, 0)
    assert await _rebuild(pipeline, empty_database.url, "50:250") is ReplayEnd.FINISHED
    with pytest.raises(InputError, match="holds something else"):
        await _rebuild(pipeline, empty_database.url)
    with pytest.raises(InputError, match="names the store itself"):
        await _rebuild(pipeline, pipeline.database.url)


async def test_a_replay_sends_the_dead_letters_that_are_not_there_and_no_other(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce([("e0", b"first"), *pipeline.values(5), ("e0", b"second")])
    worker = pipeline.start(start="latest")  # gives up what was there before
    await pipeline.ingested(7)
    pipeline.produce([("e0", b"third")])
    await pipeline.ingested(8)
    await worker.stop()
    assert [letter.value() for letter in pipeline.dead_letters(1)] == [b"third"]
    await pipeline.rows("DELETE FROM penstock.ingested WHERE dead_lettered > 0")
    settings = Settings(kafka_bootstrap_servers=pipeline.kafka)
    asked = Asked(topics=[pipeline.topic], group_id=pipeline.group)
    for _ in range(2):
        plan = await make_plan(settings, pipeline.url, asked)
        letters = NewLetters(pipeline.settings(), [(pipeline.topic, 0)])
        end = await run(pipeline, plan.request(), letters)
        await letters.close()
        assert end is ReplayEnd.FINISHED
        await pipeline.rows("DELETE FROM penstock.ingested")
    assert [letter.value() for letter in pipeline.dead_letters(3)] == [b"third", b"first", b"second"]
