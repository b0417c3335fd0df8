"""Our events as KurrentDB's, and back: the payload is the data, everything else the metadata. Pure."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from kurrentdbclient import NewEvent
from kurrentdbclient import RecordedEvent as Stored

from penstock_schemas import RecordedEvent
from penstock_schemas.fields import EventFields
from penstock_store._recorded import recorded_event
from penstock_store.store_errors import InvalidAppend

__all__ = ["Unreadable", "entity_stream", "new_event", "place_of", "read_event", "tenant_prefix"]

_FORM: Final = 1  # of the metadata
# KurrentDB's own names, by which its projections $by_correlation_id and its console find them
_CORRELATION: Final = "$correlationId"
_CAUSATION: Final = "$causationId"
_SAME: Final = (
    "occurred_at",
    "actor_type",
    "actor_id",
    "entity_id",
    "tenant_id",
    "schema_version",
    "idempotency_key",
)


class Unreadable(ValueError):
    """What is stored is not an event of ours, or not what was stored."""


def tenant_prefix(category: str, tenant_id: str) -> str:
    """How the names of the tenant's streams begin."""
    return f"{category}-{quote(tenant_id, safe='')}/"


def entity_stream(category: str, tenant_id: str, entity_id: str) -> str:
    """The name of the entity's stream. Other names than that of (tenant, entity) never come out."""
    return tenant_prefix(category, tenant_id) + quote(entity_id, safe="")


def place_of(stored: Stored) -> str:
    """Where it stands, for a person."""
    return f"{stored.stream_name}@{stored.stream_position}"


def new_event(fields: EventFields) -> NewEvent:
    """Raises `InvalidAppend` for a type that KurrentDB keeps for itself."""
    if fields.event_type.startswith("$"):
        raise InvalidAppend(
            f"the event type {fields.event_type!r} begins with $, which KurrentDB keeps for its own events."
            " Name it otherwise"
        )
    metadata: dict[str, Any] = {"penstock": _FORM, _CORRELATION: fields.correlation_id}
    if fields.causation_id is not None:
        metadata[_CAUSATION] = fields.causation_id
    metadata |= {name: getattr(fields, name) for name in _SAME}
    metadata["content_hash"] = fields.content_hash.hex()
    head = json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()
    return NewEvent(
        type=fields.event_type,
        data=fields.payload,
        metadata=b'%b,"metadata":%b}' % (head[:-1], fields.metadata),
        content_type="application/json",
        id=UUID(bytes=fields.event_id),
    )


def read_event(stored: Stored) -> RecordedEvent:
    """Its sequence is the commit position. Raises `Unreadable`, which says why."""
    try:
        event = _read(stored)
    except Unreadable:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"it is not an event as Penstock writes them ({type(error).__name__})") from error
    return event


def _read(stored: Stored) -> RecordedEvent:
    metadata = json.loads(stored.metadata)
    if metadata["penstock"] != _FORM:
        raise Unreadable(f"its form is {metadata['penstock']!r}; this version reads {_FORM}")
    if stored.recorded_at is None:
        raise Unreadable("the server does not say when it was recorded")
    fields = EventFields(
        event_id=stored.id.bytes,
        event_type=stored.type,
        correlation_id=metadata[_CORRELATION],
        causation_id=metadata.get(_CAUSATION),
        content_hash=bytes.fromhex(metadata["content_hash"]),
        payload=stored.data,
        metadata=json.dumps(metadata["metadata"]).encode(),
        **{name: metadata[name] for name in _SAME},
    )
    event = recorded_event(fields, stored.commit_position, stored.recorded_at)
    if event.content_hash != fields.content_hash:
        raise Unreadable("its content is not what was stored: the hash differs")
    return event
