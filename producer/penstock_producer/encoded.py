"""An event in the bytes that go to Kafka."""

from typing import NamedTuple, final

from penstock_schemas import Event

__all__ = ["EncodedEvent"]


@final
class EncodedEvent(NamedTuple):
    """What `Producer.encode` made: validated, Avro-encoded, with its key. Emitting it costs little more than
    librdkafka itself.

    It belongs to `topic`: its schema is registered for that topic's subject.
    """

    event: Event
    topic: str
    value: bytes
    """Confluent framing: a zero byte, the schema id (4 bytes, big-endian), Avro."""
    key: bytes | None
