"""`Producer`: takes events, gives deliveries."""

import asyncio
import threading
import weakref
from collections.abc import Mapping
from logging import getLogger
from types import TracebackType
from typing import Self, Unpack

from penstock_producer._client import Client, KafkaClient, Record, abandon
from penstock_producer._fork import forget_in_children
from penstock_producer._headers import Headers, HeadersLike, merge_headers
from penstock_producer._registry import PatientRegistry, Registry, timed_out
from penstock_producer._room import offer_async, offer_when_room
from penstock_producer._trace import trace_source
from penstock_producer.delivery import Delivery
from penstock_producer.encoded import EncodedEvent
from penstock_producer.errors import DeliveryFailed, EventTooLarge, NotDelivered, ProducerClosed
from penstock_producer.settings import KafkaValue, ProducerOptions, ProducerSettings
from penstock_producer.stats import ProducerStats
from penstock_schemas import Event
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.errors import RegistryUnavailable

__all__ = ["Producer"]


_log = getLogger("penstock_producer")


class Producer:
    """Emits events to Kafka. Three lines:

    ```python
    with Producer("localhost:9092", topic="orders", schema_registry_url="http://localhost:8081") as producer:
        event = Event(event_type="order.placed", entity_id="42", payload={"amount": "9.90"})
        producer.emit(event).result(timeout=10)  # waits for Kafka; leave `.result()` out to go on at once
    ```

    Use one producer per process, for any number of threads; a forked child makes its own connection by
    itself. Leaving the block flushes. `async with` and `emit_async`, `flush_async`, `close_async` do the same
    without blocking the event loop.

    `registry` or `schema_registry_url` says where schemas are registered (the first time an event of a kind
    is emitted). `config` passes librdkafka settings through; the other options are those of
    `ProducerSettings`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic: str,
        registry: Registry | None = None,
        schema_registry_url: str | None = None,
        config: Mapping[str, KafkaValue] | None = None,
        **options: Unpack[ProducerOptions],
    ) -> None:
        self._settings = ProducerSettings(
            bootstrap_servers=bootstrap_servers, topic=topic, config=dict(config or {}), **options
        )
        self._registry = PatientRegistry(registry, schema_registry_url, self._settings.registry_timeout)
        self._encoder = EventEncoder(self._registry)
        self._trace = trace_source()
        self._client: Client | None = None
        self._closed = False
        self._final = ProducerStats()
        self._lock = threading.Lock()
        self._finalizer: weakref.finalize[..., Producer] | None = None
        forget_in_children(self)

    @property
    def settings(self) -> ProducerSettings:
        """What this producer was told. Its `config` may hold passwords and is not shown in its `repr`."""
        return self._settings

    @property
    def stats(self) -> ProducerStats:
        """Counts of this process: all zero before the first event, final after `close`."""
        client = self._client
        return self._final if client is None else ProducerStats.of(client)

    def emit(
        self,
        event: Event | EncodedEvent,
        *,
        key: str | bytes | None = None,
        idempotency_key: str | None = None,
        headers: HeadersLike | None = None,
        topic: str | None = None,
    ) -> Delivery:
        """Put one event on its way and return at once; the delivery tells how it went.

        `key` decides the partition and thereby the order; by default it is the entity id, in UTF-8. `headers`
        are sent along; with OpenTelemetry installed so is the current span's `traceparent`.

        `idempotency_key` replaces the event's own, which by default is its event id. The default protects
        against retries inside Kafka and against *the same event object* emitted twice. It does not protect
        against a caller that tries again by making a new event, since that has a new id: give such events a
        key of your own, made of what they are about (`f"order-{number}-placed"`).

        Where the buffer is full, `on_full` says whether to wait for room. Raises `BufferFull`,
        `EventTooLarge`, `RegistryTimedOut`, `ProducerClosed`, `ProducerBroken`, and the errors of
        `penstock_schemas` for an event that cannot be encoded. After any of these the event was not taken.
        """
        client = self._client
        if client is None:
            client = self._open()
        if type(event) is not EncodedEvent:  # isinstance would look into an event that is none for longer
            record = self._record(event, key, idempotency_key, topic)
        elif key is None and idempotency_key is None and topic is None:
            record = event
        else:
            raise _already_encoded(event)
        trace = self._trace
        carried = None if trace is None else trace()
        if headers is not None:
            carried = merge_headers(headers, carried)
        try:
            return client.offer(record, carried)
        except BufferError:
            return offer_when_room(client, record, carried, self._settings)

    async def emit_async(
        self,
        event: Event | EncodedEvent,
        *,
        key: str | bytes | None = None,
        idempotency_key: str | None = None,
        headers: HeadersLike | None = None,
        topic: str | None = None,
    ) -> Delivery:
        """`emit` for coroutines: neither a full buffer nor the schema registry blocks the event loop.

        Returns once the event is in the buffer; `await` the delivery for Kafka's answer:
        `delivered = await (await producer.emit_async(event))`.
        """
        client = self._client or self._open()
        if type(event) is EncodedEvent:
            if key is not None or idempotency_key is not None or topic is not None:
                raise _already_encoded(event)
            record: Record = event
        elif isinstance(event, Event) and not self._encoder.knows(event, topic or self._settings.topic):
            # the registry is asked, which may take time
            record = await asyncio.to_thread(self._record, event, key, idempotency_key, topic)
        else:
            record = self._record(event, key, idempotency_key, topic)
        return await offer_async(client, record, self._carried(headers), self._settings)

    def encode(
        self,
        event: Event,
        *,
        key: str | bytes | None = None,
        idempotency_key: str | None = None,
        topic: str | None = None,
    ) -> EncodedEvent:
        """The event in the bytes that `emit` would send; `emit` takes the result any number of times.

        Arguments and errors are those of `emit`.
        """
        return EncodedEvent._make(self._record(event, key, idempotency_key, topic))

    def _record(
        self, event: object, key: str | bytes | None, idempotency_key: str | None, topic: str | None
    ) -> Record:
        if not isinstance(event, Event):
            raise TypeError(f"emit and encode take a penstock_schemas.Event, not {type(event).__qualname__}")
        if idempotency_key is not None:
            event = event.model_copy(update={"idempotency_key": idempotency_key})  # validates, too
        settings = self._settings
        to = topic or settings.topic
        try:
            value = self._encoder.encode(event, to)
        except RegistryUnavailable as error:
            raise timed_out(error, event, to, settings.registry_timeout) from error
        named = event.entity_id if key is None else key
        raw_key = named if isinstance(named, bytes) else named.encode()
        size = len(value) + len(raw_key)
        if size > settings.max_event_bytes:
            raise EventTooLarge(to, size, settings.max_event_bytes)
        return event, to, value, raw_key

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until Kafka has answered for everything emitted so far.

        Raises `NotDelivered` where it has not within `timeout` seconds (the rest stays under way: flush
        again), or where deliveries failed that nobody has looked at.
        """
        client = self._client
        if client is not None:
            pending = client.flush(timeout)
            failed, first = client.failures.take_unseen()
            _raise_if_lost(failed, first, pending, timeout, closing=False)

    async def flush_async(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - a thread's deadline
        """`flush` without blocking the event loop."""
        await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Flush, give up what Kafka has not answered for within `timeout` seconds (`close_timeout` by
        default), stop.

        Raises `NotDelivered`, which says how many events were given up or failed. Closing twice is once.
        """
        with self._lock:
            client, self._client = self._client, None
            self._closed = True
        if client is None:
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        limit = self._settings.close_timeout if timeout is None else timeout
        pending = client.flush(limit)
        failed, first = client.failures.take_unseen()  # before the pending ones fail too: those count once
        client.close()
        self._final = ProducerStats.of(client)
        _raise_if_lost(failed, first, pending, limit, closing=True)

    async def close_async(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same
        """`close` without blocking the event loop."""
        await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        self._client = self._client or self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except NotDelivered as lost:
            _explain(error, lost)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close_async()
        except NotDelivered as lost:
            _explain(error, lost)

    def _carried(self, headers: HeadersLike | None) -> Headers | None:
        trace = None if self._trace is None else self._trace()
        return trace if headers is None else merge_headers(headers, trace)

    def _connect(self) -> Client:
        return KafkaClient(self._settings)

    def _open(self) -> Client:
        with self._lock:
            if self._closed:
                raise ProducerClosed(
                    f"the producer for topic {self._settings.topic} was closed; emit inside its `with` "
                    f"block, or make "
                    "a new producer"
                )
            if self._client is None:
                self._client = client = self._connect()
                self._finalizer = weakref.finalize(
                    self, abandon, client, self._settings.topic, self._settings.close_timeout
                )
            return self._client

    def _forget_client(self) -> object | None:
        """In a forked child: the parent keeps its connections, this process makes its own."""
        client, self._client = self._client, None
        self._final = ProducerStats()
        self._lock = threading.Lock()
        self._registry.forget()
        return client


def _already_encoded(event: EncodedEvent) -> TypeError:
    return TypeError(
        f"this event was encoded for topic {event.topic} with its key; give key, idempotency_key and topic "
        f"to encode()"
    )


def _raise_if_lost(
    failed: int, first: DeliveryFailed | None, pending: int, waited: float, *, closing: bool
) -> None:
    if failed or pending:
        raise NotDelivered(failed=failed, pending=pending, waited=waited, closing=closing, first=first)


def _explain(error: BaseException | None, lost: NotDelivered) -> None:
    """The block's own exception is the one to see; what was not delivered becomes a note on it."""
    if error is None:
        raise lost
    error.add_note(f"penstock_producer: when the producer was closed, {lost}")
    _log.warning("while an exception ended the producer's block: %s", lost)
