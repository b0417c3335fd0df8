"""Events to Kafka values: Confluent's wire format, with the schema registered on first use."""

from penstock_schemas._avro_bytes import LAST_SMALL, MORE, SMALL, THREE_BYTES, UPPER, long, sized
from penstock_schemas._avro_bytes import text as avro_text
from penstock_schemas._content_hash import begun_hash, hashed_size
from penstock_schemas._kept import Kept
from penstock_schemas._text import MAX_IDENTIFIER_BYTES, known_good_json
from penstock_schemas.derive import typed_schema
from penstock_schemas.envelope import GENERIC_NAME, GENERIC_SCHEMA, MAGIC
from penstock_schemas.event import Event
from penstock_schemas.fields import EPOCH
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
        self._heads: dict[tuple[str, type[EventPayload] | None], bytes] = {}

    def knows(self, event: Event, topic: str) -> bool:
        """Whether such an event was encoded before: encoding it needs no network then."""
        typed = event.typed_payload
        return (topic, None if typed is None else type(typed)) in self._heads

    def encode(self, event: Event, topic: str) -> bytes:
        """The record's value.

        Raises `RegistryUnavailable`, `RegistryRefused`, or `CannotDeriveSchema` for a typed event.
        """
        private = event.__pydantic_private__ or {}  # pydantic's own way to what is in it takes 1.3 µs
        typed = private.get("_typed")
        kind = None if typed is None else type(typed)
        head = self._heads.get((topic, kind)) or self._register(topic, kind)
        return encode_as(event, private.get("_encoded"), head)

    def _register(self, topic: str, kind: type[EventPayload] | None) -> bytes:
        name, schema = (GENERIC_NAME, GENERIC_SCHEMA) if kind is None else typed_schema(kind)
        subject = f"{topic}-value" if kind is None else f"{topic}-{name}"
        schema_id = self._registry.register(subject, schema)
        head = self._heads[topic, kind] = MAGIC + schema_id.to_bytes(4, "big") + _START
        return head


_START = long(36)
"""What each envelope begins with: the length of the event id's text."""


def encode_as(event: Event, payload: bytes | None, head: bytes = _START) -> bytes:
    """The envelope in Avro: the fields in the order of `envelope_schema`.

    `payload` is its encoded record; None: JSON text, as the generic schema has it. `head` is what the
    envelope begins with, behind its framing.
    """
    values = event.__dict__  # one straight line from it: a call for each field would cost as much again
    correlation, key = values["correlation_id"], values["idempotency_key"]
    # What defaults to the event id is its text, made already.
    event_id = str(values["event_id"]) if "correlation_id" in event.__pydantic_fields_set__ else correlation
    event_type, actor_id, metadata = values["event_type"], values["actor_id"], values["metadata"]
    cause, version = values["causation_id"], values["schema_version"]
    usual = cause is None and key == event_id and 0 < version < LAST_SMALL
    entity, actor = values["entity_id"].encode(), b"" if actor_id is None else actor_id.encode()
    size, text = len(entity), values.get("payload_json") or event.payload_json
    since = values["occurred_at"] - EPOCH
    time = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    bits = time << 1
    late = time >= THREE_BYTES
    content = begun_hash[event_type]()
    content.update(b"".join((_HASHED_SIZES[size], entity, hashed_size(len(text)), text)))
    return b"".join((
        head, event_id.encode(), _OFTEN[event_type],
        MORE[bits & 0x7F] if late else long(time),
        MORE[bits >> 7 & 0x7F] if late else b"",
        UPPER[bits >> 14] if late else b"",
        _OFTEN_OR_NULL[values["actor_type"]],
        _NULL if actor_id is None else _SOME_SIZED[len(actor)], actor,
        SMALL[size], entity, _OFTEN[values["tenant_id"]],
        _NULL if correlation == event_id else _SOME + avro_text(correlation),
        _USUAL[version] if usual else _unusual(cause, version, None if key == event_id else key),
        content.digest(),
        sized(text) if payload is None else payload,
        sized(known_good_json(metadata)) if metadata else _NO_METADATA,
    ))  # fmt: skip


def _unusual(cause: str | None, version: int, key: str | None) -> bytes:
    """From the causation id to the size of the content hash."""
    parts = _or_null(cause), long(version), _or_null(key), _HASH_SIZE
    return b"".join(parts)


def _or_null(value: str | None) -> bytes:
    return _NULL if value is None else _SOME + avro_text(value)


# Branches of a union of null and something: 0, and 1 in zigzag.
_NULL, _SOME = b"\0", b"\2"
_HASH_SIZE = _SOME + long(16)
_SOME_SIZED = tuple(_SOME + size for size in SMALL[: MAX_IDENTIFIER_BYTES + 1])
_HASHED_SIZES = tuple(map(hashed_size, range(LAST_SMALL)))
_USUAL = tuple(_NULL + version + _NULL + _HASH_SIZE for version in SMALL)
"""The same by version, where the event has no cause and its id is its idempotency key."""
_NO_METADATA = avro_text("{}")
# Of fields with few distinct values.
_OFTEN, _OFTEN_OR_NULL = Kept(avro_text), Kept(_or_null)
