"""What the worker is made of, one part after the other and nothing overlapped: consume, decode, write."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, cast

from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as KafkaPartition
from pydantic import SecretStr

from benchmarks.servers import Servers, Topic
from penstock_consumer.batching import Lane, PendingBatch, fill
from penstock_consumer.interfaces import Record, TopicPartition
from penstock_consumer.settings import BatchLimits
from penstock_schemas.decoder import Decoder
from penstock_schemas.registry import SchemaRegistry
from penstock_store.ingest import PartitionRef, PostgresSink, Rejection, SinkSettings

__all__ = ["measure_parts"]

_POLL = 30.0
_LIMITS = BatchLimits()


def measure_parts(servers: Servers, topic: Topic, indexes: str) -> dict[str, float]:
    """Events/s of each part alone, and `<part>_cpu`: CPU seconds of this process per million events.

    `consume`: librdkafka to messages; `decode`: messages to the cells of a COPY, as the worker does it;
    `write`: the sink's transactions, of which most is waiting for PostgreSQL.
    """
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started, spent = time.perf_counter(), time.process_time()
        result = work()
        found[f"{name}_cpu"] = (time.process_time() - spent) / topic.records * 1e6
        found[name] = topic.records / (time.perf_counter() - started)
        return result

    messages = timed("consume", lambda: _consume(servers, topic))
    decoder = _decoder(servers, messages)
    with servers.database(indexes) as name, asyncio.Runner() as runner:
        dsn = SecretStr(servers.admin(name))
        sink = PostgresSink(SinkSettings(dsn=dsn, group_id=f"bench-{uuid.uuid4().hex[:8]}"))
        runner.run(sink.open())
        try:
            lanes = runner.run(_claimed(sink, topic))
            batches = timed("decode", lambda: _decoded(messages, lanes, decoder))
            timed("write", lambda: runner.run(_written(sink, batches)))
        finally:
            runner.run(sink.close())
    return found


def _consume(servers: Servers, topic: Topic) -> list[Message]:
    config = {"bootstrap.servers": servers.kafka, "group.id": "bench-parts", "enable.auto.commit": False}
    consumer = Consumer(config)
    messages: list[Message] = []
    try:
        consumer.assign([KafkaPartition(topic.name, number, 0) for number in range(topic.partitions)])
        while len(messages) < topic.records:
            came = consumer.consume(_LIMITS.fetch, _POLL)
            if not came:
                raise RuntimeError(f"{len(messages)} of {topic.records} records came within {_POLL:g} s")
            messages += (message for message in came if message.error() is None)
    finally:
        consumer.close()
    return messages


def _decoder(servers: Servers, messages: Sequence[Message]) -> Decoder:
    decoder, registry = Decoder(), SchemaRegistry(servers.registry)
    for schema_id in {decoder.schema_id(cast("bytes", message.value())) for message in messages}:
        decoder.add_schema(schema_id, registry.schema(schema_id))
    return decoder


async def _claimed(sink: PostgresSink, topic: Topic) -> dict[TopicPartition, Lane]:
    refs = [PartitionRef("bench", topic.name, "bench", number) for number in range(topic.partitions)]
    return {
        where: Lane(where, claim, 0, claim.position, 0)
        for ref, claim in (await sink.claim(refs)).items()
        for where in [TopicPartition(ref.topic, ref.partition)]
    }


def _decoded(
    messages: Sequence[Message], lanes: dict[TopicPartition, Lane], decoder: Decoder
) -> list[PendingBatch]:
    batches = []
    for begin in range(0, len(messages), _LIMITS.records):
        batch = PendingBatch(0.0)
        fill(
            batch,
            cast("Sequence[Record]", messages[begin : begin + _LIMITS.records]),
            0,
            lanes,
            decoder,
            {},
        )
        batch.seal()
        batches.append(batch)
    return batches


async def _written(sink: PostgresSink, batches: Sequence[PendingBatch]) -> None:
    for batch in batches:
        await sink.write(batch.rows, reject=_refused)


async def _refused(rejections: Sequence[Rejection]) -> None:
    raise RuntimeError(f"PostgreSQL refuses {len(rejections)} rows: {rejections[0]}")
