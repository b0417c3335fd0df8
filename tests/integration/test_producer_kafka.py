"""The producer where Kafka's own behaviour is the point: partitions, refusals, absent brokers, forks."""

import re
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from fixtures.private_servers import PrivateKafka
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for
from penstock_producer import BufferFull, DeliveryFailed, NotDelivered, Producer
from penstock_producer.errors import RegistryTimedOut
from penstock_schemas import Event
from penstock_schemas.decoder import Decoder
from penstock_schemas.registry import InMemoryRegistry

NOWHERE = "127.0.0.1:1"  # nothing listens there, and the refusal comes at once


def event(entity: str = "42", **fields: Any) -> Event:
    return Event(**{"event_type": "order.placed", "entity_id": entity} | fields)


def producer_for(kafka: str, topic: str, **options: Any) -> Producer:
    return Producer(kafka, topic=topic, **{"registry": InMemoryRegistry()} | options)


def offsets(kafka: str, topic: str, partitions: int = 1) -> list[int]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "t"})
    try:
        return [
            consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for number in range(partitions)
        ]
    finally:
        consumer.close()


def murmur2_partition(key: bytes, partitions: int) -> int:
    """Where Java's default partitioner puts a key (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return ((h ^ (h >> 15)) & 0x7FFFFFFF) % partitions


def test_a_key_goes_to_the_partition_where_java_puts_it(kafka: str, topic: TopicFactory) -> None:
    keys = [f"loan-{number}" for number in range(40)] + ["Straße", "日本", "x"]
    with producer_for(kafka, topic(7)) as producer:
        deliveries = [(key, producer.emit(event(key))) for key in keys]
        for key, delivery in deliveries:
            assert delivery.result(30).partition == murmur2_partition(key.encode(), 7), key


def test_records_are_framed_and_compressed_as_told(kafka: str, topic: TopicFactory) -> None:
    registry = InMemoryRegistry()
    for compression in ("zstd", "lz4", "gzip", "snappy", "none"):
        name = topic()
        with producer_for(kafka, name, registry=registry, compression=compression) as producer:
            sent = event(payload={"text": "a" * 5_000})
            producer.emit(sent)
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": "t"})
        try:
            consumer.assign([TopicPartition(name, 0, 0)])
            message = consumer.poll(10)
            assert message is not None
            decoder = Decoder()
            schema_id = decoder.schema_id(message.value() or b"")
            decoder.add_schema(schema_id, registry.schema(schema_id))
            assert decoder.decode(message.value() or b"").event_id == sent.event_id.bytes
        finally:
            consumer.close()


def test_a_missing_topic_is_named_and_nothing_hangs(kafka: str) -> None:
    quick = {"topic.metadata.propagation.max.ms": 200}
    with producer_for(kafka, "t-missing", delivery_timeout=30, config=quick) as producer:
        failure = producer.emit(event()).exception(40)
        again = producer.emit(event()).exception(40)  # librdkafka knows by now and does not even take it
        assert again is not None
        assert again.name in ("_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART")
        assert (producer.stats.emitted, producer.stats.delivered) == (2, 0)
    assert failure is not None
    assert failure.name == "UNKNOWN_TOPIC_OR_PART"
    assert "topic t-missing" in str(failure)
    assert "Create the topic" in str(failure)


def test_a_topic_with_a_smaller_limit_refuses_one_event_and_takes_its_neighbours(
    kafka: str, topic: TopicFactory
) -> None:
    name = topic(config={"max.message.bytes": "10000"})
    with producer_for(kafka, name, compression="none", linger=0.0) as producer:
        assert producer.emit(event()).result(30).offset == 0
        failure = producer.emit(event(payload={"text": "x" * 20_000})).exception(30)
        assert failure is not None
        assert (failure.name, failure.retriable) == ("MSG_SIZE_TOO_LARGE", False)
        assert "max.message.bytes" in str(failure)
        assert producer.emit(event()).result(30).offset == 1


def test_a_broker_that_is_away_fills_the_buffer_and_the_deadline_holds() -> None:
    producer = producer_for(NOWHERE, "events", buffer_events=10, block_timeout=0.3, close_timeout=0.1)
    deliveries = [producer.emit(event()) for _ in range(10)]
    started = time.monotonic()
    with pytest.raises(BufferFull, match=re.escape(f"wait for Kafka at {NOWHERE}")):
        producer.emit(event())
    assert 0.2 < time.monotonic() - started < 5
    with pytest.raises(NotDelivered, match="10 events had no answer"):
        producer.close()
    assert [str(delivery.exception(0)).count("_PURGE_QUEUE") for delivery in deliveries] == [1] * 10


def test_a_full_buffer_can_raise_at_once_and_bytes_fill_it_too() -> None:
    producer = producer_for(
        NOWHERE, "events", on_full="raise", buffer_bytes=64 * 1024, max_event_bytes=60_000, close_timeout=0
    )
    large = producer.encode(event(payload={"text": "x" * 20_000}))
    for _ in range(3):
        producer.emit(large)
    with pytest.raises(BufferFull):
        producer.emit(large)
    assert producer.stats.buffered == 3
    with pytest.raises(NotDelivered, match="3 events"):
        producer.close()


def test_a_delivery_that_times_out_says_what_the_client_last_heard() -> None:
    with producer_for(NOWHERE, "events", delivery_timeout=0.5) as producer:
        failure = producer.emit(event()).exception(20)
    assert failure is not None
    assert (failure.name, failure.retriable, failure.maybe_stored) == ("_MSG_TIMED_OUT", True, True)
    assert "refused" in str(failure)


def test_what_passes_while_the_broker_is_away_arrives_in_order_and_once(private_kafka: PrivateKafka) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    address = private_kafka.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("events", 1, 1)])["events"].result(30)
    with producer_for(address, "events", delivery_timeout=110) as producer:
        before = [producer.emit(event(payload={"n": n})) for n in range(500)]
        before[0].result(30)
        private_kafka.kill()
        during = [producer.emit(event(payload={"n": n})) for n in range(500, 1_000)]
        with pytest.raises(NotDelivered, match="still being tried"):
            producer.flush(0.2)
        private_kafka.start()
        producer.flush(90)
    assert [delivery.result(0).offset for delivery in before + during] == list(range(1_000))
    assert offsets(address, "events") == [1_000]


def test_a_registry_that_is_away_never_blocks_for_ever(kafka: str, topic: TopicFactory) -> None:
    url = f"http://{NOWHERE}"
    with Producer(kafka, topic=topic(), schema_registry_url=url, registry_timeout=0.5) as producer:
        started = time.monotonic()
        with pytest.raises(RegistryTimedOut, match=re.escape(NOWHERE)):
            producer.emit(event())
        assert time.monotonic() - started < 10


def test_schemas_are_registered_where_the_url_says(kafka: str, topic: TopicFactory, registry: str) -> None:
    with Producer(kafka, topic=topic(), schema_registry_url=registry) as producer:
        encoded = producer.encode(event())
        assert producer.emit(encoded).result(30).offset == 0
    from penstock_schemas.registry import SchemaRegistry

    client = SchemaRegistry(registry)
    try:
        assert "penstock.Event" in client.schema(int.from_bytes(encoded.value[1:5], "big"))
    finally:
        client.close()


def test_one_poll_thread_and_none_after_close(kafka: str, topic: TopicFactory) -> None:
    def polling() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "penstock-producer-poll"]

    before = len(polling())
    with producer_for(kafka, topic()) as producer:
        deliveries = [producer.emit(event()) for _ in range(2_000)]
        assert len(polling()) == before + 1
        wait_for(lambda: all(delivery.done() for delivery in deliveries), 30, "deliveries without a flush")
    assert len(polling()) == before


FORK = """
import os, sys
from penstock_producer import Producer
from penstock_producer.errors import WrongProcess
from penstock_schemas import Event
from penstock_schemas.registry import InMemoryRegistry

kafka, topic = sys.argv[1:]
event = Event(event_type="x", entity_id="1")
producer = Producer(kafka, topic=topic, registry=InMemoryRegistry())
before = producer.emit(event)
child = os.fork()
if child == 0:
    try:
        before.result(20)
    except WrongProcess as wrong:
        print("child:", wrong, flush=True)
    assert producer.stats.emitted == 0
    with producer:
        print("child: offset", producer.emit(event).result(20).offset, flush=True)
    sys.exit(3)
before.result(20)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
print("parent: offset", producer.emit(event).result(20).offset, flush=True)
producer.close()
"""


def test_a_forked_child_makes_its_own_client(kafka: str, topic: TopicFactory) -> None:
    name = topic()
    done = subprocess.run(
        [sys.executable, "-c", FORK, kafka, name], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "wait for deliveries in the process that emitted" in done.stdout
    assert re.findall(r"child: offset [01]|parent: offset 2", done.stdout) == done.stdout.splitlines()[1:]
    assert offsets(kafka, name) == [3]


UNCLOSED = textwrap.dedent("""
    import logging, sys
    from penstock_producer import Producer
    from penstock_schemas import Event
    from penstock_schemas.registry import InMemoryRegistry

    logging.basicConfig()
    producer = Producer(sys.argv[1], topic=sys.argv[2], registry=InMemoryRegistry(), linger=5.0)
    producer.emit(Event(event_type="x", entity_id="1"))
""")


def test_a_process_that_forgets_to_close_still_delivers_and_is_told(kafka: str, topic: TopicFactory) -> None:
    name = topic()
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED, kafka, name], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"a producer for topic {name} was never closed" in done.stderr
    assert offsets(kafka, name) == [1]


async def test_many_coroutines_share_a_small_buffer(kafka: str, topic: TopicFactory) -> None:
    async with producer_for(kafka, topic(), buffer_events=50) as producer:
        deliveries = [await producer.emit_async(event(payload={"n": n})) for n in range(2_000)]
        assert [(await delivery).offset for delivery in deliveries] == list(range(2_000))


def test_a_burst_is_served_by_emit_itself(kafka: str, topic: TopicFactory) -> None:
    """Deliveries are answered while a thread emits without pause: memory is not held until flush."""
    with producer_for(kafka, topic()) as producer:
        producer.emit(event()).result(30)
        encoded = producer.encode(event())
        first = producer.emit(encoded)
        emitted = 1
        while not first.done():
            producer.emit(encoded)
            emitted += 1
            assert emitted < 2_000_000, "no answer was served while emitting"


def test_closing_with_a_broker_away_is_bounded_and_says_how_many() -> None:
    producer = producer_for(NOWHERE, "events", close_timeout=0.3)
    deliveries = [producer.emit(event()) for _ in range(1_000)]
    started = time.monotonic()
    with pytest.raises(NotDelivered, match=r"1,000 events had no answer from Kafka after 0\.3 s: given up"):
        producer.close()
    assert time.monotonic() - started < 10
    with pytest.raises(DeliveryFailed, match="closed before Kafka answered"):
        deliveries[-1].result(0)
