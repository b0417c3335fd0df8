"""Events to Kafka values: Confluent's wire format, with the schema registered on first use."""

from penstock_schemas._text import known_good_json
from penstock_schemas.derive import typed_schema
from penstock_schemas.envelope import GENERIC_NAME, GENERIC_SCHEMA, MAGIC
from penstock_schemas.event import Event
from penstock_schemas.fields import microseconds
from penstock_schemas.payload import EventPayload
from penstock_schemas.registry import Registry

__all__ = ["EventEncoder", "encode_as"]


class EventEncoder:
    """Encodes events. The registry is asked once per topic and schema; after that nothing leaves the process.

    A generic event's schema is registered under the subject `<topic>-value`, a typed one's under
    `<topic>-<record's full name>` (Confluent's TopicNameStrategy and TopicRecordNameStrategy). May be shared
    by threads.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._headers: dict[tuple[str, type[EventPayload] | None], bytes] = {}

    def encode(self, event: Event, topic: str) -> bytes:
        """The record's value.

        Raises `RegistryUnavailable`, `RegistryRefused`, or `CannotDeriveSchema` for a typed event.
        """
        typed = event.typed_payload
        kind = None if typed is None else type(typed)
        header = self._headers.get((topic, kind)) or self._register(topic, kind)
        return header + encode_as(event, event.encoded_payload)

    def _register(self, topic: str, kind: type[EventPayload] | None) -> bytes:
        name, schema = (GENERIC_NAME, GENERIC_SCHEMA) if kind is None else typed_schema(kind)
        subject = f"{topic}-value" if kind is None else f"{topic}-{name}"
        schema_id = self._registry.register(subject, schema)
        header = self._headers[topic, kind] = MAGIC + schema_id.to_bytes(4, "big")
        return header


def encode_as(event: Event, payload: bytes | None) -> bytes:
    """The envelope in Avro, without framing: the fields in the order of `envelope_schema`.

    `payload` is its encoded record; None: JSON text, as the generic schema has it.
    """
    event_id = str(event.event_id)
    correlation, key = event.correlation_id, event.idempotency_key
    return b"".join(  # one straight line: a call for each field would cost as much as the fields themselves
        (
            _text(event_id),
            _text(event.event_type),
            _time(microseconds(event.occurred_at)),
            _NULL if event.actor_type is None else _SOME + _text(event.actor_type),
            _NULL if event.actor_id is None else _SOME + _text(event.actor_id),
            _text(event.entity_id),
            _text(event.tenant_id),
            _NULL if correlation == event_id else _SOME + _text(correlation),
            _NULL if event.causation_id is None else _SOME + _text(event.causation_id),
            _long(event.schema_version),
            _NULL if key == event_id else _SOME + _text(key),
            _SOME,
            _bytes(event.content_hash),
            _bytes(event.payload_json) if payload is None else payload,
            _bytes(known_good_json(event.metadata)) if event.metadata else _NO_METADATA,
        )
    )


def _varint(value: int) -> bytes:
    """A zigzag variable-length integer of up to 64 bits."""
    out = bytearray()
    rest = (value << 1) ^ (value >> 63)
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


# Branches of a union of null and something: 0, and 1 in zigzag.
_NULL, _SOME = b"\0", b"\2"
_NO_METADATA = b"\4{}"
_SMALL = tuple(_varint(value) for value in range(2_048))  # lengths and versions, nearly always
_LAST_SMALL = len(_SMALL)
_EIGHT_BYTES = range(1 << 48, 1 << 55)  # what times from 1978 to 3111 take


def _long(value: int) -> bytes:
    return _SMALL[value] if 0 <= value < _LAST_SMALL else _varint(value)


def _bytes(value: bytes) -> bytes:
    size = len(value)
    return (_SMALL[size] if size < _LAST_SMALL else _varint(size)) + value


def _text(value: str) -> bytes:
    raw = value.encode()
    size = len(raw)
    return (_SMALL[size] if size < _LAST_SMALL else _varint(size)) + raw


def _time(value: int) -> bytes:
    if value not in _EIGHT_BYTES:
        return _varint(value)
    v = value << 1
    # fmt: off
    return bytes((
        v & 127 | 128, v >> 7 & 127 | 128, v >> 14 & 127 | 128, v >> 21 & 127 | 128,
        v >> 28 & 127 | 128, v >> 35 & 127 | 128, v >> 42 & 127 | 128, v >> 49,
    ))
    # fmt: on
