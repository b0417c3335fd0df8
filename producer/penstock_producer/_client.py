"""One process's librdkafka producer: its queue, its poll thread, its failures."""

import os
import threading
import time
from collections import Counter
from logging import DEBUG, WARNING, getLogger
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as RdProducer

from penstock_producer._headers import Headers
from penstock_producer.delivery import Delivery, new_delivery
from penstock_producer.errors import (
    DeliveryFailed,
    EventTooLarge,
    InvalidSettings,
    ProducerBroken,
    ProducerClosed,
    ProducerError,
)
from penstock_producer.settings import ProducerSettings
from penstock_schemas import Event
from penstock_schemas.client_errors import fatal_cause
from penstock_schemas.client_log import client_logger

_log = getLogger("penstock_producer")

# emit() serves the delivery reports itself once in so many events. Left to the poll thread alone each report
# would wait for the GIL of a busy emitter, up to 5 ms apiece. A power of two, for the mask.
_POLL_EVERY = 128
_MASK = _POLL_EVERY - 1
# How long the poll thread keeps out of a busy emitter's way before it looks again.
_BACK_OFF = 0.005
_POLL = 0.1
# Seconds between two warnings of one kind that no event is at fault for.
_WARN_EVERY = 30.0
# Failures whose own text does not say what was wrong.
_SILENT = (
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
)
# After a purge the reports of what was given up are there at once; this bounds a broken client.
_PURGE_DEADLINE = 2.0


Record = tuple[Event, str, bytes, bytes | None]
"""An event, its topic, value and key: an `EncodedEvent`, or what would be one."""


class Client(Protocol):
    """What a `Producer` sends through: Kafka or memory."""

    pid: int

    @property
    def failures(self) -> "Failures":
        """The deliveries that failed."""

    def offer(self, record: Record, headers: Headers | None) -> Delivery:
        """Take the record into the buffer. Raises `BufferError` where there is no room."""

    def make_room(self, timeout: float) -> None:
        """Give deliveries up to `timeout` seconds to leave the buffer; returns when some may have."""

    def buffered(self) -> int:
        """Events without an answer."""

    def emitted(self) -> int:
        """Events taken since the client was made."""

    def flush(self, timeout: float) -> int:
        """Wait for all answers; how many are still missing at the deadline."""

    def close(self) -> None:
        """Give up what has no answer (those deliveries fail) and stop."""


class Failures:
    """Failed deliveries: counted by librdkafka's name, and how many of them nobody has looked at yet."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self._unseen = 0
        self._first: DeliveryFailed | None = None
        self._round = 0  # what `take_unseen` reported is not unseen any more, whoever looks at it later
        self._lock = threading.Lock()

    def add(self, failure: DeliveryFailed) -> None:
        with self._lock:
            self.by_name[failure.name] += 1
            failure.unseen_in = self._round
            self._unseen += 1
            if self._first is None:
                self._first = failure

    def seen(self, failure: DeliveryFailed) -> None:
        with self._lock:
            if failure.unseen_in == self._round:
                self._unseen -= 1
            failure.unseen_in = None

    def take_unseen(self) -> tuple[int, DeliveryFailed | None]:
        """How many there are and the first failure since last asked; afterwards they count as seen."""
        with self._lock:
            count, first = self._unseen, self._first
            self._unseen, self._first = 0, None
            self._round += 1
            return count, first if count else None


class KafkaClient:
    """librdkafka, served by `offer` while it is busy and by a poll thread while it is quiet."""

    def __init__(self, settings: ProducerSettings) -> None:
        self.pid = os.getpid()
        self.failures = Failures()
        self._emitted = 0
        self._limit = settings.max_event_bytes
        self._serving = False
        self._stopped = False
        self._delivery_timeout = settings.delivery_timeout
        self._last_error = (0.0, "")
        self._warned: dict[int, float] = {}
        config = {**settings.librdkafka(), "error_cb": self._on_error}
        try:
            self._rd = RdProducer(config, logger=client_logger("penstock_producer.librdkafka"))
        except (KafkaException, TypeError, ValueError) as error:
            raise InvalidSettings(f"librdkafka refuses the configuration: {_said(error)}") from None
        self._produce = self._rd.produce
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="penstock-producer-poll", daemon=True)
        self._thread.start()

    def offer(self, record: Record, headers: Headers | None) -> Delivery:
        _, topic, value, key = record
        delivery = new_delivery(self, topic)
        produce = self._produce  # called as an attribute it would first be looked for among the methods
        try:
            if headers is None:
                produce(topic, value, key, -1, delivery)
            else:
                produce(topic, value, key, -1, delivery, headers=headers)
        except (KafkaException, RuntimeError) as error:
            refused = self._refused(error, record)
            if not isinstance(refused, DeliveryFailed):
                raise refused from error
            self.failures.add(refused)
            delivery.refuse(refused)
        self._emitted = emitted = self._emitted + 1
        if not emitted & _MASK and not self._serving:
            self._poll_inline()
        return delivery

    def make_room(self, timeout: float) -> None:
        # A fatal error is raised by whichever call meets it first; what it means for events, their reports
        # and the next `produce` say. Raised while a delivery is called back, it is a SystemError.
        try:
            self._rd.poll(timeout)
        except (KafkaException, SystemError) as error:
            self._on_fatal(error)

    def buffered(self) -> int:
        return 0 if self._stopped else len(self._rd)

    def emitted(self) -> int:
        return self._emitted

    def flush(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while True:
            try:
                return self._rd.flush(max(0.0, end - time.monotonic()))
            except (KafkaException, SystemError) as error:
                self._on_fatal(error)
            if time.monotonic() >= end:
                return len(self._rd)

    def close(self) -> None:
        self._stopping.set()
        if len(self._rd):
            self._rd.purge()
            self.flush(_PURGE_DEADLINE)
        self._thread.join(_PURGE_DEADLINE)
        self._rd.close()
        self._stopped = True

    def failure(self, error: KafkaError, message: Message) -> DeliveryFailed:
        failure = DeliveryFailed.of(error, message, self._hint(error.code()))
        self.failures.add(failure)
        return failure

    def seen(self, failure: DeliveryFailed) -> None:
        self.failures.seen(failure)

    def _poll_inline(self) -> None:
        # A done callback may emit, and would come here again: once is enough, and the stack is finite.
        self._serving = True
        try:
            self.make_room(0)
        finally:
            self._serving = False

    def _serve(self) -> None:
        seen = 0
        while not self._stopping.is_set():
            busy = self._emitted - seen >= _POLL_EVERY
            seen = self._emitted
            if busy:
                self._stopping.wait(_BACK_OFF)
            else:
                self.make_room(_POLL)

    def _on_error(self, error: KafkaError) -> None:
        # Client-wide news such as "all brokers down": no event is at fault, but it explains their failures.
        now = time.monotonic()
        self._last_error = (now, error.str())
        # the same comes with each attempt to connect, twenty times a second at first
        news = now - self._warned.get(error.code(), -_WARN_EVERY) >= _WARN_EVERY
        if news:
            self._warned[error.code()] = now
        _log.log(WARNING if news else DEBUG, "Kafka client: %s (%s)", error.str(), error.name())

    def _on_fatal(self, error: KafkaException | SystemError) -> None:
        said = _said(fatal_cause(error))
        self._last_error = (time.monotonic(), said)
        _log.error("Kafka client cannot go on: %s; events under way fail, close this producer", said)

    def _hint(self, code: int) -> str:
        """Why nothing got through, for a failure that only says that nothing did."""
        at, said = self._last_error
        return said if code in _SILENT and time.monotonic() - at <= self._delivery_timeout else ""

    def _refused(self, error: Exception, record: Record) -> ProducerError:
        """What librdkafka's refusal to take an event means."""
        if not isinstance(error, KafkaException):
            return ProducerClosed("the producer was closed while an event was emitted; it was not taken")
        _, topic, value, key = record
        cause = error.args[0]
        if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return EventTooLarge(topic, len(value) + len(key or b""), self._limit)
        if cause.fatal() or cause.code() == KafkaError._FATAL:
            return ProducerBroken(
                f"the Kafka client cannot go on: {cause.str()} ({cause.name()}). Close this producer and "
                f"make "
                "a new one"
            )
        return DeliveryFailed(topic=topic, key=key, code=cause.code(), name=cause.name(), reason=cause.str())


def _said(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def abandon(client: Client, topic: str, timeout: float) -> None:
    """What becomes of a producer that nobody closed, when it is collected or the process ends."""
    if client.pid != os.getpid():
        return
    pending = client.flush(timeout) if client.buffered() else 0
    client.close()
    if pending:
        _log.error("a producer for topic %s was never closed; %d events were not delivered", topic, pending)
    else:
        _log.warning("a producer for topic %s was never closed: use it in a `with` block", topic)
