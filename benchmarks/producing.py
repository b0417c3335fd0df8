"""`emit()` beside a bare librdkafka loop that sends the same bytes, both through `flush`."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer as Bare

from benchmarks.events import OrderStep
from benchmarks.servers import Servers
from penstock_producer import EncodedEvent, Producer
from penstock_producer.settings import ProducerSettings
from penstock_schemas import Event

_FLUSH = 300.0
_SERVE = 128  # events between two polls, as emit does it


class _Report:
    """What a careful user's delivery callback keeps: the place, or the fault."""

    __slots__ = ("error", "offset", "partition", "time")

    def __call__(self, error: Any, message: Any) -> None:
        self.error = error
        self.offset, self.time, self.partition = message.offset(), message.timestamp()[1], message.partition()


def measure_emit(servers: Servers, count: int) -> dict[str, float]:
    """Events/s of one round: bare, and what `emit` takes: encoded beforehand, typed and generic.

    `emit_` has the events at hand, as the bare loop has its bytes; `make_and_emit_` makes each in the loop,
    typed ones with their payload object.
    """
    rates: dict[str, float] = {}
    with servers.topic() as topic:
        options: dict[str, Any] = {"topic": topic.name, "schema_registry_url": servers.registry}

        def rate(items: Iterable[Event | EncodedEvent]) -> float:
            with Producer(servers.kafka, **options) as producer:
                producer.emit(_typed(0)).result(_FLUSH)
                producer.emit(_generic(0)).result(_FLUSH)
                start = time.perf_counter()
                for one in items:
                    producer.emit(one)
                producer.flush(_FLUSH)
                return count / (time.perf_counter() - start)

        with Producer(servers.kafka, **options) as producer:
            encoded = [producer.encode(_typed(number)) for number in range(count)]
        pairs = [(each.value, each.key) for each in encoded]
        config = ProducerSettings(bootstrap_servers=servers.kafka, topic=topic.name).librdkafka()
        with _outside_the_collector():
            rates["bare"] = _bare(Bare(config), topic.name, pairs)
            rates["emit_encoded"] = rate(encoded)
        del encoded, pairs
        for name, make in (("typed", _typed), ("generic", _generic)):
            events = [make(number) for number in range(count)]
            with _outside_the_collector():
                rates[f"emit_{name}"] = rate(events)
            del events
            rates[f"make_and_emit_{name}"] = rate(map(make, range(count)))
    return rates


@contextmanager
def _outside_the_collector() -> Iterator[None]:
    """What is at hand is not walked over: else one loop or the other pays for that, by chance."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _bare(producer: Bare, topic: str, pairs: list[tuple[bytes, bytes | None]]) -> float:
    producer.produce(topic, *pairs[0], -1, _Report())
    producer.flush(_FLUSH)
    start = time.perf_counter()
    for number, (value, key) in enumerate(pairs):
        producer.produce(topic, value, key, -1, _Report())
        if not number % _SERVE:
            producer.poll(0)
    producer.flush(_FLUSH)
    return len(pairs) / (time.perf_counter() - start)


def _typed(number: int) -> Event:
    payload = OrderStep(amount=number, currency="EUR", note=f"{number:032x}")
    return Event.of(payload, entity_id=f"order-{number % 10_000:08d}", actor_type="user", actor_id="user-7")


def _generic(number: int) -> Event:
    return Event(
        event_type="order.step",
        entity_id=f"order-{number % 10_000:08d}",
        actor_type="user",
        actor_id="user-7",
        payload={"amount": number, "currency": "EUR", "note": f"{number:032x}"},
    )
