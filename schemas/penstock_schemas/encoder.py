"""Events to Kafka values: Confluent's wire format, with the schema registered on first use."""

from functools import lru_cache

from penstock_schemas import _avro_bytes as avro
from penstock_schemas._text import MAX_IDENTIFIER_BYTES, known_good_json
from penstock_schemas.derive import typed_schema
from penstock_schemas.envelope import GENERIC_NAME, GENERIC_SCHEMA, MAGIC
from penstock_schemas.event import Event, content_hash, typed_parts
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
        typed, payload = typed_parts(event)
        kind = None if typed is None else type(typed)
        header = self._headers.get((topic, kind)) or self._register(topic, kind)
        return header + encode_as(event, payload)

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
    values = event.__dict__  # one straight line from it: a call for each field would cost as much as the rest
    correlation, key = values["correlation_id"], values["idempotency_key"]
    # What defaults to the event id is its text, made already.
    event_id = str(values["event_id"]) if "correlation_id" in event.__pydantic_fields_set__ else correlation
    event_type, entity_id, metadata = values["event_type"], values["entity_id"], values["metadata"]
    actor_id, cause, version = values["actor_id"], values["causation_id"], values["schema_version"]
    entity, actor = entity_id.encode(), b"" if actor_id is None else actor_id.encode()
    text = values.get("payload_json") or event.payload_json
    return b"".join(
        (
            _ID_SIZE,
            event_id.encode(),
            _often(event_type),
            avro.long(microseconds(values["occurred_at"])),
            _often_or_null(values["actor_type"]),
            _NULL if actor_id is None else _SOME_SIZED[len(actor)],
            actor,
            avro.SMALL[len(entity)],
            entity,
            _often(values["tenant_id"]),
            _NULL if correlation == event_id else _SOME + avro.text(correlation),
            _NULL if cause is None else _SOME + avro.text(cause),
            avro.SMALL[version] if version < avro.LAST_SMALL else avro.long(version),
            _NULL if key == event_id else _SOME + avro.text(key),
            _HASH_SIZE,
            content_hash(event_type, entity_id, text),
            avro.sized(text) if payload is None else payload,
            avro.sized(known_good_json(metadata)) if metadata else _NO_METADATA,
        )
    )


# Branches of a union of null and something: 0, and 1 in zigzag.
_NULL, _SOME = b"\0", b"\2"
_SOME_SIZED = tuple(_SOME + size for size in avro.SMALL[: MAX_IDENTIFIER_BYTES + 1])
_ID_SIZE = avro.long(36)
_HASH_SIZE = _SOME + avro.long(16)
_NO_METADATA = avro.text("{}")
_often = lru_cache(maxsize=4096)(avro.text)  # of fields with few distinct values


@lru_cache(maxsize=4096)
def _often_or_null(value: str | None) -> bytes:
    return _NULL if value is None else _SOME + avro.text(value)
