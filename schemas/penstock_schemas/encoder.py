"""Events to Kafka values: Confluent's wire format, with the schema registered on first use."""

from functools import lru_cache

from penstock_schemas import _avro_bytes as avro
from penstock_schemas._text import known_good_json
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
    actor_type, actor_id, cause = values["actor_type"], values["actor_id"], values["causation_id"]
    text = values.get("payload_json") or event.payload_json
    return b"".join(
        (
            avro.text(event_id),
            _often(event_type),
            avro.long(microseconds(values["occurred_at"])),
            _NULL if actor_type is None else _SOME + _often(actor_type),
            _NULL if actor_id is None else _SOME + avro.text(actor_id),
            avro.text(entity_id),
            _often(values["tenant_id"]),
            _NULL if correlation == event_id else _SOME + avro.text(correlation),
            _NULL if cause is None else _SOME + avro.text(cause),
            avro.long(values["schema_version"]),
            _NULL if key == event_id else _SOME + avro.text(key),
            _SIXTEEN,
            content_hash(event_type, entity_id, text),
            avro.sized(text) if payload is None else payload,
            avro.sized(known_good_json(metadata)) if metadata else _NO_METADATA,
        )
    )


# Branches of a union of null and something: 0, and 1 in zigzag.
_NULL, _SOME = b"\0", b"\2"
_SIXTEEN = _SOME + avro.long(16)
_NO_METADATA = avro.text("{}")
_often = lru_cache(maxsize=4096)(avro.text)  # of fields with few distinct values
