"""`EventFields` as a `RecordedEvent`, for backends that keep the fields."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from penstock_schemas import RecordedEvent
from penstock_schemas.fields import EventFields

__all__ = ["EPOCH", "instant", "recorded_event"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant(microseconds: int) -> datetime:
    """From microseconds since the Unix epoch, exactly."""
    return EPOCH + timedelta(microseconds=microseconds)


def recorded_event(fields: EventFields, sequence: int, recorded_at: datetime) -> RecordedEvent:
    """The event as a reader gets it, independent of the object that was appended."""
    return RecordedEvent(
        event_type=fields.event_type,
        entity_id=fields.entity_id,
        payload=json.loads(fields.payload),
        event_id=UUID(bytes=fields.event_id),
        occurred_at=instant(fields.occurred_at),
        actor_type=fields.actor_type,
        actor_id=fields.actor_id,
        tenant_id=fields.tenant_id,
        correlation_id=fields.correlation_id,
        causation_id=fields.causation_id,
        schema_version=fields.schema_version,
        idempotency_key=fields.idempotency_key,
        metadata=json.loads(fields.metadata),
        sequence=sequence,
        recorded_at=recorded_at,
    )
