"""Several PostgreSQL servers, as docs/scaling.md splits a stream over them: a topic and a group for each."""

from __future__ import annotations

import asyncio
from zlib import crc32

from fixtures.consuming import Pipeline, event
from fixtures.databases import Database
from fixtures.topics import TopicFactory
from penstock_producer import Producer
from penstock_store.postgresql.store import PostgresStore, StoreSettings
from penstock_store.queries import QueryOptions

_EVENTS, _ENTITIES = 600, 23


async def test_an_entity_lives_in_one_shard_whole_and_in_order_and_a_retry_meets_it_there(
    kafka: str, database: Database, other_database: Database, topic: TopicFactory
) -> None:
    shards = [Pipeline(kafka, each, topic(2), each.url) for each in (database, other_database)]

    def shard_of(entity: str) -> Pipeline:
        return shards[crc32(entity.encode()) % len(shards)]

    for each in shards:
        each.schemas = shards[0].schemas  # one registry for all
    workers = [each.start() for each in shards]
    try:
        with Producer(kafka, topic=shards[0].topic, registry=shards[0].schemas) as producer:
            for number in [*range(_EVENTS), *range(0, _EVENTS, 10)]:  # every tenth is tried again
                made = event(number, _ENTITIES)
                producer.emit(made, topic=shard_of(made.entity_id).topic)
        emitted = [sum(shard_of(f"e{n % _ENTITIES}") is each for n in range(_EVENTS)) for each in shards]
        assert min(emitted) > 0
        repeats = [
            sum(shard_of(f"e{n % _ENTITIES}") is each for n in range(0, _EVENTS, 10)) for each in shards
        ]
        await asyncio.gather(
            *(each.ingested(a + b) for each, a, b in zip(shards, emitted, repeats, strict=True))
        )
    finally:
        for worker in workers:
            await worker.stop()
    assert [(await each.books())["duplicate"] for each in shards] == repeats
    for number in range(_ENTITIES):
        entity = f"e{number}"
        async with PostgresStore(StoreSettings(dsn=shard_of(entity).database.reader_url)) as store:
            found = await store.get_events(QueryOptions(entity_id=entity, limit=1_000))
        assert [one.payload["n"] for one in found.events] == list(range(number, _EVENTS, _ENTITIES))
