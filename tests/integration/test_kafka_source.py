"""What librdkafka does under the `KafkaSource`: each behaviour that the engine's promises stand on."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for_async
from penstock_consumer.interfaces import Record, TopicPartition
from penstock_consumer.kafka_source import KafkaSource
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.settings import WorkerSettings

PROTOCOLS = [{"session.timeout.ms": 6000}, {"group.protocol": "consumer"}]
both = pytest.mark.parametrize("protocol", PROTOCOLS, ids=["cooperative", "kip848"])


class Members:
    """Remembers what the source told."""

    def __init__(self) -> None:
        self.owned: set[TopicPartition] = set()
        self.told: list[str] = []
        self.misplaced_at: list[TopicPartition] = []

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append("assigned")
        self.owned |= set(partitions)

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append("revoked")
        self.owned -= set(partitions)

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append("lost")
        self.owned -= set(partitions)

    def misplaced(self, partition: TopicPartition, *, truncated: bool = False) -> None:
        self.misplaced_at.append(partition)

    def unreadable(self, partition: TopicPartition, why: str) -> None:
        self.told.append(f"unreadable: {why}")


Started = tuple[KafkaSource, Members]
Start = Callable[..., Awaitable[Started]]


@pytest.fixture
async def start(kafka: str) -> AsyncIterator[Start]:
    """`await start(topic, kafka={...}, group="g")`: a member that has its partitions."""
    sources: list[KafkaSource] = []

    async def make(topic: str, config: dict[str, Any], group: str | None = None) -> Started:
        settings = WorkerSettings(
            bootstrap_servers=kafka,
            topics=(topic,),
            group_id=group or f"g-{uuid.uuid4().hex[:8]}",
            kafka=config,
        )
        source, members = KafkaSource(settings, WorkerMetrics(CollectorRegistry())), Members()
        sources.append(source)
        await source.start(members)
        end = time.monotonic() + 30
        while not members.owned and time.monotonic() < end:
            assert await source.fetch(100, 0.1, 0.0) == [], "nothing flows before it is told from where"
        assert members.owned
        return source, members

    yield make
    await asyncio.gather(*(source.close() for source in sources))


def fill(kafka: str, topic: str, count: int, partitions: int = 1) -> None:
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    for n in range(count):
        producer.produce(topic, value=b"%d" % n, partition=n % partitions)
        producer.poll(0)
    assert producer.flush(30) == 0


async def take(source: KafkaSource, count: int) -> list[Record]:
    found: list[Record] = []
    end = time.monotonic() + 30
    while len(found) < count and time.monotonic() < end:
        found += await source.fetch(count - len(found), 0.2, 0.05)
    return found


@both
async def test_partitions_flow_from_where_they_are_told_and_rewind_without_stragglers(
    kafka: str, topic: TopicFactory, start: Start, protocol: dict[str, Any]
) -> None:
    name = topic(3)
    await asyncio.to_thread(fill, kafka, name, 30_000, 3)
    source, members = await start(name, protocol)
    choose, position = random.Random(7), dict[TopicPartition, int]()
    for _ in range(60):
        some = choose.sample(sorted(members.owned), choose.randint(1, 3))
        starts = {partition: choose.randrange(9_000) for partition in some}
        await source.flow(starts)
        position |= starts
        for _ in range(choose.randint(1, 4)):
            for record in await source.fetch(choose.choice([1, 50, 2000]), 0.1, 0.005):
                partition = TopicPartition(record.topic(), record.partition())
                assert record.offset() == position[partition], "a straggler, or a gap"
                position[partition] += 1
    assert members.told == ["assigned"]


@both
async def test_held_partitions_bring_nothing_and_the_membership_outlives_the_timeouts(
    kafka: str, topic: TopicFactory, start: Start, protocol: dict[str, Any]
) -> None:
    name = topic(2)
    await asyncio.to_thread(fill, kafka, name, 2_000, 2)
    source, members = await start(name, {**protocol, "max.poll.interval.ms": 6000})
    await source.flow(dict.fromkeys(members.owned, 0))
    assert len(await take(source, 100)) == 100
    await source.hold(list(members.owned))
    end = time.monotonic() + 7.5
    while time.monotonic() < end:
        assert await source.fetch(100, 0.25, 0.0) == []
    assert members.told == ["assigned"]
    await source.flow(dict.fromkeys(members.owned, 600))
    assert {record.offset() for record in await take(source, 800)} == set(range(600, 1000))


@both
async def test_a_rebalance_takes_and_gives_partitions_that_are_held(
    kafka: str, topic: TopicFactory, start: Start, protocol: dict[str, Any]
) -> None:
    name, group = topic(4), f"g-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(fill, kafka, name, 400, 4)
    first, ours = await start(name, protocol, group)
    await first.flow(dict.fromkeys(sorted(ours.owned)[:2], 0))  # two flow, two never did

    async def poll() -> None:
        while True:
            await first.fetch(10, 0.1, 0.0)

    polling = asyncio.create_task(poll())
    second, theirs = await start(name, protocol, group)
    end = time.monotonic() + 30
    while len(theirs.owned) < 2 and time.monotonic() < end:
        await second.fetch(10, 0.1, 0.0)
    assert len(ours.owned) == len(theirs.owned) == 2
    assert not ours.owned & theirs.owned
    await second.close()
    await wait_for_async(lambda: len(ours.owned) == 4)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    assert len(ours.owned) == 4
    await first.flow(dict.fromkeys(ours.owned, 50))
    assert len(await take(first, 200)) == 200


async def test_a_chunk_is_gathered_although_the_client_returns_early(
    kafka: str, topic: TopicFactory, start: Start
) -> None:
    name = topic()
    await asyncio.to_thread(fill, kafka, name, 20_000)
    source, members = await start(name, PROTOCOLS[0])
    await source.flow(dict.fromkeys(members.owned, 0))
    sizes = []
    while sum(sizes) < 20_000:
        sizes.append(len(await source.fetch(5_000, 0.5, 0.2)))
    assert len(sizes) <= 12, f"{len(sizes)} chunks: {sizes}"


async def test_one_record_does_not_wait_for_a_chunk(kafka: str, topic: TopicFactory, start: Start) -> None:
    name = topic()
    source, members = await start(name, PROTOCOLS[0])
    await source.flow(dict.fromkeys(members.owned, 0))
    # Waiting out the hour would end the test's time.
    waiting = asyncio.create_task(source.fetch(5_000, 3_600.0, 0.01))
    await asyncio.to_thread(fill, kafka, name, 1)
    assert len(await asyncio.wait_for(waiting, 30)) == 1


async def test_an_offset_that_is_gone_is_told_and_never_replaced(
    kafka: str, topic: TopicFactory, start: Start
) -> None:
    name = topic()
    await asyncio.to_thread(fill, kafka, name, 10)
    source, members = await start(name, PROTOCOLS[0])
    await source.flow({TopicPartition(name, 0): 5_000})
    end = time.monotonic() + 20
    while not members.misplaced_at and time.monotonic() < end:
        assert await source.fetch(10, 0.2, 0.0) == []
    assert members.misplaced_at[0] == TopicPartition(name, 0)


async def test_the_broker_is_asked_for_ids_and_watermarks(
    kafka: str, topic: TopicFactory, start: Start
) -> None:
    name = topic(2)
    await asyncio.to_thread(fill, kafka, name, 10, 2)
    source, _ = await start(name, PROTOCOLS[0])
    gone = TopicPartition("no-such-topic", 0)
    states = await source.inspect([TopicPartition(name, 0), TopicPartition(name, 1), gone])
    assert set(states) == {TopicPartition(name, 0), TopicPartition(name, 1)}
    assert states[TopicPartition(name, 1)].low == 0
    assert states[TopicPartition(name, 1)].high == 5
    assert len(states[TopicPartition(name, 0)].topic_id) == 22
    assert source.cluster_id
