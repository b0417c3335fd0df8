"""For the tests of those who emit: a `Producer` that needs no servers."""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Unpack

from confluent_kafka import KafkaError, Message

from penstock_producer._client import Client, Failures, Record
from penstock_producer._headers import Headers
from penstock_producer.delivery import Delivery, new_delivery
from penstock_producer.errors import DeliveryFailed
from penstock_producer.producer import Producer
from penstock_producer.settings import KafkaValue, ProducerOptions
from penstock_schemas import Event
from penstock_schemas.registry import InMemoryRegistry, Registry

__all__ = ["InMemoryProducer", "InMemoryRecord"]


Frozen = tuple[tuple[str, str | bytes | None], ...]


class InMemoryRecord(NamedTuple):
    """A record as Kafka would hold it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Frozen


class InMemoryProducer(Producer):
    """The same producer without Kafka: same arguments (no address), same methods, same errors.

    Events are encoded through `registry` (an `InMemoryRegistry` by default), so that what could not be
    encoded in production fails here too. Deliveries succeed at once; `hold`, `release` and `fail` change
    that. All topics exist and have one partition.
    """

    def __init__(
        self,
        *,
        topic: str = "events",
        registry: Registry | None = None,
        config: Mapping[str, KafkaValue] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        **options: Unpack[ProducerOptions],
    ) -> None:
        super().__init__(
            "memory", topic=topic, registry=registry or InMemoryRegistry(), config=config, **options
        )
        self._memory = _MemoryClient(self.settings.buffer_events, clock)

    @property
    def events(self) -> list[Event]:
        """The delivered events, in order; an event's idempotency key is the one it was emitted with."""
        return [event for event, _ in self._memory.stored]

    @property
    def records(self) -> list[InMemoryRecord]:
        """The same as Kafka would hold them."""
        return [record for _, record in self._memory.stored]

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries of everything emitted, in order, delivered or not."""
        return list(self._memory.deliveries)

    def fail(self, count: int = 1, *, code: int = KafkaError._MSG_TIMED_OUT) -> None:
        """Let the next `count` deliveries fail with librdkafka's error `code`."""
        self._memory.fail_next(count, code)

    def hold(self) -> None:
        """Leave deliveries without an answer from now on, as Kafka does while it is away."""
        self._memory.holding = True

    def release(self) -> None:
        """Answer what was held, in order, and what comes."""
        self._memory.release()

    def _connect(self) -> Client:
        return self._memory


class _MemoryClient:
    """A `Client` whose broker is a list."""

    def __init__(self, capacity: int, clock: Callable[[], datetime]) -> None:
        self.pid = os.getpid()
        self.failures = Failures()
        self.stored: list[tuple[Event, InMemoryRecord]] = []
        self.deliveries: list[Delivery] = []
        self.holding = False
        self._capacity = capacity
        self._clock = clock
        self._held: deque[tuple[Record, Frozen, Delivery]] = deque()
        self._to_fail: deque[int] = deque()
        self._offsets: dict[str, int] = {}
        self._answered = threading.Condition(threading.RLock())  # a done callback may emit

    def offer(self, record: Record, headers: Headers | None) -> Delivery:
        with self._answered:
            if len(self._held) >= self._capacity:
                raise BufferError
            delivery = new_delivery(self, record[1])
            self.deliveries.append(delivery)
            self._held.append((record, tuple(headers or ()), delivery))
            if not self.holding:
                self.release()
            return delivery

    def release(self) -> None:
        with self._answered:
            self.holding = False
            while self._held:
                self._answer(*self._held.popleft())
            self._answered.notify_all()

    def fail_next(self, count: int, code: int) -> None:
        with self._answered:
            self._to_fail.extend([code] * count)

    def make_room(self, timeout: float) -> None:
        with self._answered:
            self._answered.wait_for(lambda: len(self._held) < self._capacity, timeout)

    def buffered(self) -> int:
        return len(self._held)

    def emitted(self) -> int:
        return len(self.deliveries)

    def flush(self, timeout: float) -> int:
        with self._answered:
            self._answered.wait_for(lambda: not self._held, timeout)
            return len(self._held)

    def close(self) -> None:
        with self._answered:
            self._to_fail.clear()
            self.fail_next(len(self._held), KafkaError._PURGE_QUEUE)
            self.release()

    def failure(self, error: KafkaError, message: Message) -> DeliveryFailed:
        failure = DeliveryFailed.of(error, message)
        self.failures.add(failure)
        return failure

    def seen(self, failure: DeliveryFailed) -> None:
        self.failures.seen(failure)

    def _answer(self, record: Record, headers: Frozen, delivery: Delivery) -> None:
        event, topic, value, key = record
        code = self._to_fail.popleft() if self._to_fail else None
        time = round(self._clock().timestamp() * 1_000)
        if code is not None:
            delivery(KafkaError(code), Message(topic=topic, key=key))
            return
        offset = self._offsets.get(topic, 0)
        self._offsets[topic] = offset + 1
        self.stored.append((event, InMemoryRecord(topic, 0, offset, key, value, headers)))
        delivery(None, Message(topic=topic, partition=0, offset=offset, timestamp=(1, time)))
