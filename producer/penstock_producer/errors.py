"""Everything that this distribution raises; `ProducerError` is the root.

Faults of an event or its schema (`penstock_schemas.errors.InvalidEvent`, `IncompatibleSchema`, …) pass
through as they are: the event has to change, the producer is well.
"""

from typing import TYPE_CHECKING, Any, Self

from penstock_producer._advice import advice_for

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = [
    "BufferFull",
    "DeliveryFailed",
    "EventTooLarge",
    "InvalidSettings",
    "NotDelivered",
    "ProducerBroken",
    "ProducerClosed",
    "ProducerError",
    "RegistryTimedOut",
    "WrongProcess",
]


class ProducerError(Exception):
    """Root of the errors of `penstock_producer`. All of them travel between processes (pickle)."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class InvalidSettings(ProducerError, ValueError):
    """A setting is missing, unknown, out of range or fixed. The text names it, never its value."""


class ProducerClosed(ProducerError):
    """The producer was closed before this call. Emit inside its `with` block, or make a new producer."""


class ProducerBroken(ProducerError):
    """librdkafka gave up for good (a fatal error): order or uniqueness could no longer be promised.

    Close this producer and make a new one; what was not delivered has to be emitted again.
    """


class BufferFull(ProducerError):
    """There was no room within `block_timeout`, or at all with `on_full="raise"`. The event was not taken.

    Kafka takes events more slowly than they come, or is away. Wait and emit the same event again, emit less,
    or raise `buffer_events` and `buffer_bytes`.
    """


class EventTooLarge(ProducerError):
    """The encoded event is `size` bytes with its key; `limit` is the most that goes. It was not taken.

    Put the bulk elsewhere and a reference into the payload; or raise `max_event_bytes` and, with it, the
    topic's `max.message.bytes`.
    """

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(
            f"an event for topic {topic} has {size:,} bytes with its key, the limit is {limit:,} "
            f"(max_event_bytes); "
            "put the bulk elsewhere and a reference into the payload"
        )
        self.size = size
        self.limit = limit


class RegistryTimedOut(ProducerError):
    """The schema registry gave no answer within `registry_timeout`. The event was not taken and is not at
    fault.

    Each schema is asked for once in a process's life. Check the registry, then emit the same event again.
    """


class WrongProcess(ProducerError):
    """A delivery from before a fork was waited for in the child. Only the process that emitted can know."""


class DeliveryFailed(ProducerError):
    """Kafka did not acknowledge an event.

    `code` and `name` are librdkafka's (-192, `_MSG_TIMED_OUT`); `retriable` says whether the same event may
    go through later; `maybe_stored` whether Kafka may hold it all the same. Emit the *same* event object
    again, not a new one: the idempotency key is what lets the store recognise it.
    """

    def __init__(
        self, *, topic: str, key: bytes | None, code: int, name: str, reason: str, hint: str = ""
    ) -> None:
        advice = advice_for(name)
        shown = "without key" if key is None else f"with key {key[:64]!r}"
        said = f"; the client last reported: {hint}" if hint else ""
        super().__init__(
            f"an event {shown} was not delivered to topic {topic}: {reason} ({name}){said}. {advice.text}"
        )
        self.topic = topic
        self.key = key
        self.code = code
        self.name = name
        self.retriable = advice.retriable
        self.maybe_stored = advice.maybe_stored
        self.unseen_in: int | None = None  # the producer's own book-keeping

    @classmethod
    def of(cls, error: "KafkaError", message: "Message", hint: str = "") -> Self:
        """The failure that a delivery report tells of."""
        return cls(
            topic=message.topic() or "",
            key=message.key(),
            code=error.code(),
            name=error.name(),
            reason=error.str(),
            hint=hint,
        )


class NotDelivered(ProducerError):
    """`flush` or `close` ended while not all was well: `failed` deliveries that nobody had looked at,
    `pending` ones without an answer at the deadline.

    After `flush` the pending ones go on being tried; after `close` they were given up. `first` is the first
    failure.
    """

    def __init__(
        self, *, failed: int, pending: int, waited: float, closing: bool, first: DeliveryFailed | None
    ) -> None:
        parts = []
        if pending:
            fate = "given up" if closing else "still being tried"
            parts.append(f"{_events(pending)} had no answer from Kafka after {waited:g} s: {fate}")
        if failed:
            parts.append(f"{_events(failed)} failed, the first: {first}")
        super().__init__("; ".join(parts))
        self.failed = failed
        self.pending = pending
        self.first = first


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _restore(kind: type[ProducerError], said: tuple[Any, ...], state: dict[str, Any]) -> ProducerError:
    """An error without its constructor, whose arguments are not what it keeps."""
    error = kind.__new__(kind, *said)
    error.__dict__.update(state)
    return error
