"""The event's Avro envelope: the same fields around JSON text (generic) or a record (typed)."""

import json
from typing import Any

__all__ = ["GENERIC_NAME", "GENERIC_SCHEMA", "MAGIC", "envelope_schema"]

MAGIC = b"\x00"
"""First byte of Confluent's wire format; four bytes of schema id, big-endian, follow."""

GENERIC_NAME = "penstock.Event"

_NULLABLE_TEXT = ["null", "string"]


def _field(name: str, kind: Any, doc: str, **default: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "doc": doc, **default}


def envelope_schema(name: str, payload: Any, doc: str) -> dict[str, Any]:
    """The envelope's record, called `name` (a full name), with `payload` as the type of its payload.

    The fields' order is the wire's: the decoder has a fast path for exactly this one, and takes any other
    order as well.
    """
    return {
        "type": "record",
        "name": name,
        "doc": doc,
        "fields": [
            _field(
                "event_id", {"type": "string", "logicalType": "uuid"}, "Unique; best time-ordered (UUIDv7)."
            ),
            _field("event_type", "string", "What happened."),
            _field("occurred_at", {"type": "long", "logicalType": "timestamp-micros"}, "When it happened."),
            _field("actor_type", _NULLABLE_TEXT, "What kind of actor did it.", default=None),
            _field("actor_id", _NULLABLE_TEXT, "Who did it.", default=None),
            _field("entity_id", "string", "What it happened to; also the Kafka key."),
            _field("tenant_id", "string", "Whose it is.", default="default"),
            _field(
                "correlation_id", _NULLABLE_TEXT, "The process it is part of; null: event id.", default=None
            ),
            _field("causation_id", _NULLABLE_TEXT, "The event or command that caused it.", default=None),
            _field("schema_version", "int", "Version of the event type.", default=1),
            _field("idempotency_key", _NULLABLE_TEXT, "Unique per tenant; null: event id.", default=None),
            _field(
                "content_hash", ["null", "bytes"], "BLAKE2b-128; null: the reader makes it.", default=None
            ),
            _field("payload", payload, "What else there is to say."),
            _field("metadata", "string", "A JSON object about the event.", default="{}"),
        ],
    }


GENERIC_SCHEMA = json.dumps(
    envelope_schema(GENERIC_NAME, "string", "An event. The payload is a JSON object as text."),
    separators=(",", ":"),
)
"""The schema of events whose payload no model describes.

Any Avro client that knows it can write and read them.
"""
