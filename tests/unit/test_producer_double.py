"""The producer around failures, a full buffer and a registry that is away, on its double in memory."""

import asyncio
import pickle
import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError
from opentelemetry import context, trace

from penstock_producer import (
    BufferFull,
    DeliveryFailed,
    EventTooLarge,
    NotDelivered,
    Producer,
)
from penstock_producer import _trace as tracing
from penstock_producer.errors import RegistryTimedOut
from penstock_producer.testing import InMemoryProducer
from penstock_schemas import Event
from penstock_schemas.errors import RegistryRefused, RegistryUnavailable
from penstock_schemas.registry import InMemoryRegistry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def event(entity: str = "42", **fields: Any) -> Event:
    return Event(**{"event_type": "order.placed", "entity_id": entity} | fields)


class ShakyRegistry(InMemoryRegistry):
    """Gives no answer until `failures` attempts have passed."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        super().__init__()
        self.failures = failures
        self.attempts = 0
        self._error = error or RegistryUnavailable("503 Service Unavailable")

    def register(self, subject: str, schema: str) -> int:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self._error
        return super().register(subject, schema)


def test_it_keeps_the_events_as_they_were_emitted() -> None:
    first, second = event(), event("43")
    with InMemoryProducer(topic="orders") as producer:
        producer.emit(first)
        producer.emit(second, key="k", topic="others", headers={"a": "b"})
    assert producer.events == [first, second]
    assert [(r.topic, r.partition, r.offset, r.key) for r in producer.records] == [
        ("orders", 0, 0, b"42"),
        ("others", 0, 0, b"k"),
    ]
    assert producer.records[1].headers == (("a", b"b"),)
    assert all(delivery.done() for delivery in producer.deliveries)


def test_a_failed_delivery_says_why_and_what_to_do() -> None:
    with InMemoryProducer() as producer:
        producer.fail(code=KafkaError.TOPIC_AUTHORIZATION_FAILED)
        delivery = producer.emit(event())
        failure = delivery.exception(0)
        assert failure is not None
        assert (failure.name, failure.topic, failure.key) == ("TOPIC_AUTHORIZATION_FAILED", "events", b"42")
        assert (failure.retriable, failure.maybe_stored) == (False, False)
        assert "ACL Write" in str(failure)
        with pytest.raises(DeliveryFailed):
            delivery.result(0)
        assert dict(producer.stats.failed) == {"TOPIC_AUTHORIZATION_FAILED": 1}
    assert producer.events == []


def test_the_same_event_object_emitted_again_keeps_its_key() -> None:
    one = event()
    with InMemoryProducer() as producer:
        producer.fail()
        with pytest.raises(DeliveryFailed):
            producer.emit(one).result(0)
        producer.emit(one).result(0)
    assert producer.events[0].idempotency_key == str(one.event_id)


def test_a_failure_nobody_looked_at_is_raised_by_flush_once() -> None:
    with InMemoryProducer() as producer:
        producer.fail(3)
        looked_at, *_ = [producer.emit(event()) for _ in range(4)]
        assert looked_at.exception() is not None
        with pytest.raises(NotDelivered, match="2 events failed, the first") as lost:
            producer.flush()
        assert (lost.value.failed, lost.value.pending) == (2, 0)
        assert isinstance(lost.value.first, DeliveryFailed)
        producer.flush()


def test_looking_at_a_failure_after_flush_reported_it_hides_no_other() -> None:
    with InMemoryProducer() as producer:
        producer.fail()
        early = producer.emit(event())
        with pytest.raises(NotDelivered):
            producer.flush()
        producer.fail()
        producer.emit(event())
        assert early.exception() is not None
        with pytest.raises(NotDelivered, match="1 event failed"):
            producer.flush()


def test_flush_says_what_had_no_answer_and_close_gives_it_up() -> None:
    producer = InMemoryProducer(close_timeout=0.01)
    producer.hold()
    deliveries = [producer.emit(event()) for _ in range(3)]
    with pytest.raises(NotDelivered, match=r"3 events had no answer .*: still") as waiting:
        producer.flush(0.01)
    assert (waiting.value.failed, waiting.value.pending) == (0, 3)
    with pytest.raises(NotDelivered, match=r"3 events had no answer .*: given up"):
        producer.close()
    names = [failure.name for delivery in deliveries if (failure := delivery.exception(0))]
    assert names == ["_PURGE_QUEUE"] * 3


def test_the_blocks_own_exception_is_the_one_to_see() -> None:
    def lose() -> None:
        with InMemoryProducer(close_timeout=0) as producer:
            producer.hold()
            producer.emit(event())
            raise LookupError("the caller's own")

    with pytest.raises(LookupError) as seen:
        lose()
    assert "1 event had no answer from Kafka" in seen.value.__notes__[0]


def test_a_full_buffer_raises_at_once_where_told_so() -> None:
    with InMemoryProducer(buffer_events=2, on_full="raise") as producer:
        producer.hold()
        producer.emit(event("1"))
        producer.emit(event("2"))
        with pytest.raises(BufferFull, match="2 events wait"):
            producer.emit(event("3"))
        producer.release()
        producer.emit(event("4"))
    assert [one.entity_id for one in producer.events] == ["1", "2", "4"]


def test_a_full_buffer_blocks_until_there_is_room() -> None:
    with InMemoryProducer(buffer_events=1, block_timeout=30) as producer:
        producer.hold()
        producer.emit(event("1"))
        helper = threading.Timer(0.05, producer.release)
        helper.start()
        producer.emit(event("2"))
        helper.join()
    assert [one.entity_id for one in producer.events] == ["1", "2"]


def test_a_full_buffer_blocks_no_longer_than_its_deadline() -> None:
    with InMemoryProducer(buffer_events=1, block_timeout=0.05, close_timeout=0) as producer:
        producer.hold()
        producer.emit(event())
        with pytest.raises(BufferFull, match=r"within 0\.05 s"):
            producer.emit(event())
        producer.release()


async def test_a_full_buffer_does_not_block_the_event_loop() -> None:
    async with InMemoryProducer(buffer_events=1, block_timeout=30) as producer:
        producer.hold()
        await producer.emit_async(event("1"))
        second = asyncio.create_task(producer.emit_async(event("2")))
        done, _ = await asyncio.wait({second}, timeout=0.03)
        assert not done
        producer.release()
        await (await second)
    assert [one.entity_id for one in producer.events] == ["1", "2"]


async def test_a_coroutine_too_meets_the_deadline_of_a_full_buffer() -> None:
    async with InMemoryProducer(buffer_events=1, block_timeout=0.03) as producer:
        producer.hold()
        await producer.emit_async(event())
        with pytest.raises(BufferFull):
            await producer.emit_async(event())
        producer.release()


def test_a_registry_that_comes_back_in_time_costs_nothing_but_time() -> None:
    registry = ShakyRegistry(failures=2)
    with InMemoryProducer(registry=registry, registry_timeout=10) as producer:
        producer.emit(event()).result(0)
        producer.emit(event()).result(0)
    assert registry.attempts == 3


def test_a_registry_that_stays_away_is_given_up_at_the_deadline() -> None:
    with InMemoryProducer(registry=ShakyRegistry(failures=10**9), registry_timeout=0.2) as producer:
        with pytest.raises(RegistryTimedOut, match=r"within 0\.2 s .*order\.placed.* 503") as failed:
            producer.emit(event())
        assert isinstance(failed.value.__cause__, RegistryUnavailable)
        assert producer.stats.emitted == 0


def test_a_registry_that_refuses_is_not_asked_again() -> None:
    registry = ShakyRegistry(failures=10**9, error=RegistryRefused("422"))
    with InMemoryProducer(registry=registry) as producer, pytest.raises(RegistryRefused):
        producer.emit(event())
    assert registry.attempts == 1


async def test_the_event_loop_goes_on_while_the_registry_is_asked() -> None:
    loop_ran = threading.Event()

    class SlowRegistry(InMemoryRegistry):
        def register(self, subject: str, schema: str) -> int:
            assert loop_ran.wait(10), "the event loop stood still"
            return super().register(subject, schema)

    async with InMemoryProducer(registry=SlowRegistry()) as producer:
        asyncio.get_running_loop().call_later(0.01, loop_ran.set)
        await producer.emit_async(event())


def test_waiting_for_a_delivery_has_a_deadline() -> None:
    with InMemoryProducer() as producer:
        producer.hold()
        delivery = producer.emit(event())
        assert not delivery.done()
        with pytest.raises(TimeoutError, match="topic events"):
            delivery.result(0.01)
        producer.release()
        assert delivery.result(0).offset == 0


def test_any_number_of_threads_may_wait_for_one_delivery() -> None:
    offsets: list[int | None] = []
    with InMemoryProducer() as producer:
        producer.hold()
        delivery = producer.emit(event())
        waiting = [
            threading.Thread(target=lambda: offsets.append(delivery.result(10).offset)) for _ in range(8)
        ]
        for thread in waiting:
            thread.start()
        producer.release()
        for thread in waiting:
            thread.join(10)
    assert offsets == [0] * 8


async def test_coroutines_may_wait_for_one_delivery_and_give_up() -> None:
    async with InMemoryProducer() as producer:
        producer.hold()
        delivery = producer.emit(event())

        async def wait() -> int | None:
            return (await delivery).offset

        given_up = asyncio.create_task(wait())
        waiting = asyncio.gather(wait(), wait())
        await asyncio.sleep(0)
        given_up.cancel()
        threading.Thread(target=producer.release).start()
        assert await waiting == [0, 0]


async def test_awaiting_a_failed_delivery_raises() -> None:
    async with InMemoryProducer() as producer:
        producer.fail()
        with pytest.raises(DeliveryFailed, match="_MSG_TIMED_OUT"):
            await producer.emit(event())


def test_a_delivery_from_another_process_is_not_waited_for() -> None:
    from penstock_producer.delivery import new_delivery
    from penstock_producer.errors import WrongProcess

    class Elsewhere:
        pid = -1

    with pytest.raises(WrongProcess, match="process -1"):
        new_delivery(Elsewhere(), "events").result()  # type: ignore[arg-type]


def test_the_current_span_travels_as_w3c_trace_context() -> None:
    span = trace.NonRecordingSpan(
        trace.SpanContext(
            int(TRACE, 16),
            int(SPAN, 16),
            is_remote=False,
            trace_flags=trace.TraceFlags(1),
            trace_state=trace.TraceState([("vendor", "x")]),
        )
    )
    with InMemoryProducer() as producer, trace.use_span(span):
        producer.emit(event())
        producer.emit(event(), headers={"traceparent": "mine", "other": "y"})
    first, second = (dict(record.headers) for record in producer.records)
    assert first == {"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), "tracestate": b"vendor=x"}
    assert second == {"traceparent": b"mine", "other": b"y", "tracestate": b"vendor=x"}


def test_outside_of_a_span_nothing_is_added() -> None:
    token = context.attach(context.set_value("baggage", "x"))
    try:
        with InMemoryProducer() as producer:
            producer.emit(event())
    finally:
        context.detach(token)
    assert producer.records[0].headers == ()


def test_without_opentelemetry_events_are_emitted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.context", None)
    assert tracing.trace_source() is None
    with InMemoryProducer() as producer:
        producer.emit(event()).result(0)


def test_a_producer_nobody_closed_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def forget() -> None:
        InMemoryProducer(topic="forgotten").emit(event())

    forget()
    assert "a producer for topic forgotten was never closed" in caplog.text


def test_errors_travel_between_processes() -> None:
    failure = DeliveryFailed(topic="t", key=b"k", code=-192, name="_MSG_TIMED_OUT", reason="timed out")
    lost = NotDelivered(failed=1, pending=2, waited=3.0, closing=True, first=failure)
    for error in (failure, lost, EventTooLarge("t", 11, 10), BufferFull("full")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
    assert pickle.loads(pickle.dumps(lost)).first.name == "_MSG_TIMED_OUT"


def test_a_long_or_missing_key_is_shown_short() -> None:
    def text(key: bytes | None) -> str:
        return str(DeliveryFailed(topic="t", key=key, code=1, name="X", reason="r", hint="all brokers down"))

    assert len(text(b"k" * 5_000)) < 500
    assert "without key" in text(None)
    assert "the client last reported: all brokers down" in text(None)


def test_the_double_is_a_producer() -> None:
    assert issubclass(InMemoryProducer, Producer)


@pytest.mark.parametrize(
    ("name", "error"), [("bad\udcff", ValueError), (b"bytes", TypeError), (None, TypeError)]
)
def test_a_header_name_that_kafka_cannot_take_is_refused(name: Any, error: type[Exception]) -> None:
    with InMemoryProducer(topic="orders") as producer:
        with pytest.raises(error, match="header"):
            producer.emit(event(), headers={name: "x"})
        assert not producer.events
