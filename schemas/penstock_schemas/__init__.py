"""The Penstock event: its fields, its Avro envelope and codec, schema registry client and event catalogue."""

from penstock_schemas.errors import DecodeError, DecodeReason, InvalidEvent, SchemasError
from penstock_schemas.event import Event, EventPayload, RecordedEvent, foreign_event_id
from penstock_schemas.fields import EventFields

__all__ = [
    "DecodeError",
    "DecodeReason",
    "Event",
    "EventFields",
    "EventPayload",
    "InvalidEvent",
    "RecordedEvent",
    "SchemasError",
    "foreign_event_id",
]
