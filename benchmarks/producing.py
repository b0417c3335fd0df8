"""`emit()` beside a bare librdkafka loop that sends the same bytes, both through `flush`."""

from __future__ import annotations

import gc
import time
from typing import Any

from confluent_kafka import Producer as Bare

from benchmarks.events import OrderStep
from benchmarks.servers import Servers
from penstock_producer import Producer
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
    """Events/s of one round: bare, typed, generic and encoded beforehand.

    Typed and generic include making the event; typed also its payload object.
    """
    rates: dict[str, float] = {}
    with servers.topic() as topic:
        options: dict[str, Any] = {"topic": topic.name, "schema_registry_url": servers.registry}
        with Producer(servers.kafka, **options) as producer:
            encoded = [producer.encode(_typed(number)) for number in range(count)]
        pairs = [(each.value, each.key) for each in encoded]
        # Else one of the two loops, by chance, pays for the collector's walk over all of them.
        gc.collect()
        gc.freeze()
        config = ProducerSettings(bootstrap_servers=servers.kafka, topic=topic.name).librdkafka()
        rates["bare"] = _bare(Bare(config), topic.name, pairs)
        with Producer(servers.kafka, **options) as producer:
            producer.emit(encoded[0]).result(_FLUSH)
            start = time.perf_counter()
            for one in encoded:
                producer.emit(one)
            producer.flush(_FLUSH)
            rates["encoded"] = count / (time.perf_counter() - start)
        del encoded, pairs
        gc.unfreeze()
        for name, make in (("typed", _typed), ("generic", _generic)):
            with Producer(servers.kafka, **options) as producer:
                producer.emit(make(0)).result(_FLUSH)
                start = time.perf_counter()
                for number in range(count):
                    producer.emit(make(number))
                producer.flush(_FLUSH)
                rates[name] = count / (time.perf_counter() - start)
    return rates


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
