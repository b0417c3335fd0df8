"""What holds for the producer on Kafka and for its double in memory alike."""

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from pydantic import ValidationError

from fixtures.topics import TopicFactory
from penstock_producer import (
    Delivered,
    Delivery,
    EventTooLarge,
    InvalidSettings,
    Producer,
    ProducerClosed,
)
from penstock_producer.testing import InMemoryProducer
from penstock_schemas import Event, EventPayload
from penstock_schemas.decoder import Decoder
from penstock_schemas.errors import IncompatibleSchema
from penstock_schemas.registry import InMemoryRegistry

Make = Callable[..., Producer]
Stored = list[tuple[bytes | None, bytes, dict[str, bytes]]]


class OrderPlaced(EventPayload, event_type="order.placed", version=2):
    order_id: str
    amount: Decimal


def event(entity: str = "42", **fields: Any) -> Event:
    return Event(**{"event_type": "order.placed", "entity_id": entity} | fields)


class Side:
    """One of the two: makes producers and reads back what they delivered."""

    def __init__(self, kafka: str | None, topic: str) -> None:
        self._kafka = kafka
        self.topic = topic
        self.registry = InMemoryRegistry()
        self._made: list[Producer] = []

    def make(self, **options: Any) -> Producer:
        options = {"topic": self.topic, "registry": self.registry} | options
        made = Producer(self._kafka, **options) if self._kafka else InMemoryProducer(**options)
        self._made.append(made)
        return made

    def stored(self) -> Stored:
        """Key, value and headers of every record of the topic (one partition), in order."""
        if self._kafka is None:
            records = [r for made in self._made for r in made.records]  # type: ignore[attr-defined]
            return [(r.key, r.value, dict(r.headers)) for r in records]
        return read_topic(self._kafka, self.topic)

    def close(self) -> None:
        for made in self._made:
            made.close()


def read_topic(kafka: str, topic: str) -> Stored:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "t", "enable.partition.eof": False})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: Stored = []
        while len(found) < end:
            message = consumer.poll(10)
            assert message is not None, f"{len(found)} of {end} records came"
            assert message.error() is None, message.error()
            found.append((message.key(), message.value() or b"", dict(message.headers() or ())))
        return found
    finally:
        consumer.close()


@pytest.fixture(params=["memory", "kafka"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    if request.param == "memory":
        made = Side(None, "events")
    else:
        topic: TopicFactory = request.getfixturevalue("topic")
        made = Side(request.getfixturevalue("kafka"), topic())
    yield made
    made.close()


def decoded(side: Side, value: bytes) -> Any:
    decoder = Decoder()
    schema_id = decoder.schema_id(value)
    decoder.add_schema(schema_id, side.registry.schema(schema_id))
    return decoder.decode(value)


def test_a_delivery_says_where_the_event_is(side: Side) -> None:
    with side.make() as producer:
        first = producer.emit(event()).result(30)
        second = producer.emit(event()).result(30)
    assert (first.topic, first.partition, first.offset) == (side.topic, 0, 0)
    assert (second.partition, second.offset) == (0, 1)
    assert first.timestamp is not None
    assert first.timestamp.utcoffset() is not None


def test_events_arrive_in_the_order_in_which_they_were_emitted(side: Side) -> None:
    emitted = [event(str(number % 7), payload={"n": number}) for number in range(1_000)]
    with side.make() as producer:
        for one in emitted:
            producer.emit(one)
        producer.flush(30)
    found = [decoded(side, value) for _, value, _ in side.stored()]
    assert [fields.event_id for fields in found] == [one.event_id.bytes for one in emitted]
    assert [fields.payload for fields in found] == [one.payload_json for one in emitted]


@pytest.mark.parametrize(
    ("given", "stored"),
    [(None, "Straße 7".encode()), ("text-ü", "text-ü".encode()), (b"\x00\xff", b"\x00\xff")],
)
def test_the_key_is_the_entity_unless_one_is_given(
    side: Side, given: str | bytes | None, stored: bytes
) -> None:
    with side.make() as producer:
        producer.emit(event("Straße 7"), key=given).result(30)
    assert [key for key, _, _ in side.stored()] == [stored]


def test_a_typed_event_has_its_payload_as_a_record_and_reads_as_its_json_form(side: Side) -> None:
    placed = Event.of(OrderPlaced(order_id="A-1", amount=Decimal("9.90")), entity_id="A-1")
    with side.make() as producer:
        producer.emit(placed).result(30)
    fields = decoded(side, side.stored()[0][1])
    assert (fields.event_type, fields.schema_version) == ("order.placed", 2)
    assert json.loads(fields.payload) == placed.payload == {"order_id": "A-1", "amount": "9.90"}
    assert fields.content_hash == placed.content_hash


def test_an_idempotency_key_given_to_emit_replaces_the_events_own(side: Side) -> None:
    own, plain = event(idempotency_key="own"), event()
    with side.make() as producer:
        producer.emit(own)
        producer.emit(own, idempotency_key="another")
        producer.emit(plain)
        with pytest.raises(ValidationError):
            producer.emit(own, idempotency_key="")
    keys = [decoded(side, value).idempotency_key for _, value, _ in side.stored()]
    assert keys == ["own", "another", str(plain.event_id)]
    assert own.idempotency_key == "own"


def test_headers_travel_as_bytes(side: Side) -> None:
    with side.make() as producer:
        producer.emit(event(), headers={"text": "ü", "bytes": b"\xff"})
        producer.emit(event(), headers=[("text", "x")])
        with pytest.raises(TypeError, match="header 'n' is a int"):
            producer.emit(event(), headers={"n": 5})  # type: ignore[dict-item]
    assert [headers for _, _, headers in side.stored()] == [
        {"text": "ü".encode(), "bytes": b"\xff"},
        {"text": b"x"},
    ]


def test_an_encoded_event_is_emitted_as_it_is_any_number_of_times(side: Side) -> None:
    with side.make() as producer:
        encoded = producer.encode(event("7"), idempotency_key="k")
        for _ in range(3):
            producer.emit(encoded)
        for change in ({"key": "x"}, {"idempotency_key": "x"}, {"topic": "x"}):
            with pytest.raises(TypeError, match=f"encoded for topic {side.topic}"):
                producer.emit(encoded, **change)
    assert [(key, value) for key, value, _ in side.stored()] == [(b"7", encoded.value)] * 3


def test_what_is_no_event_is_refused(side: Side) -> None:
    with side.make() as producer, pytest.raises(TypeError, match="not dict"):
        producer.emit({"event_type": "x"})  # type: ignore[arg-type]


def test_an_event_beyond_the_limit_is_refused_before_it_is_sent(side: Side) -> None:
    with side.make(max_event_bytes=2_000) as producer:
        producer.emit(event(payload={"text": "x" * 1_500}))
        with pytest.raises(EventTooLarge, match="limit is 2,000") as refused:
            producer.emit(event(payload={"text": "x" * 2_000}))
        assert refused.value.size > refused.value.limit == 2_000
    assert len(side.stored()) == 1


def test_a_schema_that_its_topic_cannot_take_is_refused(side: Side) -> None:
    def version(kind: Any) -> EventPayload:
        class Weighed(EventPayload, event_type="parcel.weighed"):
            grams: kind

        return Weighed(grams="5")

    with side.make() as producer:
        producer.emit(Event.of(version(int), entity_id="1")).result(30)
        with pytest.raises(IncompatibleSchema):
            producer.emit(Event.of(version(str), entity_id="1"))
    assert len(side.stored()) == 1


def test_flush_and_close_leave_nothing_unanswered(side: Side) -> None:
    producer = side.make()
    flushed = [producer.emit(event()) for _ in range(500)]
    producer.flush(30)
    assert all(delivery.done() for delivery in flushed)
    closed = [producer.emit(event()) for _ in range(500)]
    producer.close()
    assert all(delivery.done() for delivery in closed)
    producer.close()


def test_a_closed_producer_takes_nothing(side: Side) -> None:
    with side.make() as producer:
        pass
    with pytest.raises(ProducerClosed, match=side.topic):
        producer.emit(event())
    producer.flush()


def test_the_stats_count(side: Side) -> None:
    with side.make() as producer:
        assert producer.stats.emitted == 0
        for _ in range(10):
            producer.emit(event())
        producer.flush(30)
        stats = producer.stats
    assert (stats.emitted, stats.delivered, stats.buffered, dict(stats.failed)) == (10, 10, 0, {})
    assert producer.stats == stats


def test_many_threads_may_emit(side: Side) -> None:
    deliveries: list[Delivery] = []

    def emit(thread: int) -> None:
        deliveries.extend(producer.emit(event(f"{thread}", payload={"n": n})) for n in range(200))

    with side.make() as producer:
        threads = [threading.Thread(target=emit, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len({delivery.result(0).offset for delivery in deliveries}) == 800
    for entity in range(4):
        numbers = [decoded(side, v).payload for key, v, _ in side.stored() if key == b"%d" % entity]
        assert numbers == [b'{"n":%d}' % n for n in range(200)]


def test_a_done_callback_runs_once_whether_early_or_late_and_may_emit(side: Side) -> None:
    seen: list[Delivered] = []
    with side.make() as producer:
        first = producer.emit(event())
        first.add_done_callback(lambda done: seen.append(done.result(0)))
        first.add_done_callback(lambda done: producer.emit(event("from a callback")))
        first.result(30)
        first.add_done_callback(lambda done: seen.append(done.result(0)))
    assert [one.offset for one in seen] == [0, 0]
    assert [key for key, _, _ in side.stored()] == [b"42", b"from a callback"]


def test_a_callback_that_raises_is_logged_and_harms_nobody(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    with side.make() as producer:
        delivery = producer.emit(event())
        delivery.add_done_callback(lambda done: 1 / 0)
        assert delivery.result(30).offset == 0
        assert producer.emit(event()).result(30).offset == 1
        producer.flush(30)
    assert "ZeroDivisionError" in caplog.text


async def test_coroutines_emit_await_and_flush(side: Side) -> None:
    async with side.make() as producer:
        delivery = await producer.emit_async(event("1"), headers={"a": "b"})
        assert (await delivery).offset == 0
        assert (await delivery).offset == 0
        assert (await producer.emit(event("2"))).offset == 1
        encoded = producer.encode(event("3"))
        await producer.emit_async(encoded)
        with pytest.raises(TypeError):
            await producer.emit_async(encoded, key="x")
        await producer.flush_async(30)
        assert producer.stats.delivered == 3
    assert [key for key, _, _ in side.stored()] == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    "config",
    [{"acks": "1"}, {"request.required.acks": 0}, {"enable.idempotence": False}, {"partitioner": "random"}],
)
def test_what_the_pipeline_stands_on_cannot_be_changed(side: Side, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=f"must not change {next(iter(config))}"):
        side.make(config=config)
