"""What a decoded record is: the event's fields in wire units, in the order in which the store copies them."""

from datetime import UTC, datetime
from typing import NamedTuple, Self

from penstock_schemas._text import known_good_json
from penstock_schemas.event import Event

__all__ = ["EventFields", "microseconds"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventFields(NamedTuple):
    """One event as the worker passes it on.

    Every limit of the envelope holds, so PostgreSQL refuses none of these values.
    """

    event_id: bytes
    """16 bytes, as in `uuid.UUID.bytes`."""
    event_type: str
    occurred_at: int
    """Microseconds since the Unix epoch, within the years 1 to 9999."""
    actor_type: str | None
    actor_id: str | None
    entity_id: str
    tenant_id: str
    correlation_id: str
    causation_id: str | None
    schema_version: int
    idempotency_key: str
    content_hash: bytes
    """16 bytes: `penstock_schemas.event.content_hash`."""
    payload: bytes
    """A JSON object, UTF-8, that jsonb takes."""
    metadata: bytes
    """A JSON object, UTF-8, that jsonb takes."""

    @classmethod
    def of(cls, event: Event) -> Self:
        """The fields of an event that never was on the wire."""
        return cls(
            event_id=event.event_id.bytes,
            event_type=event.event_type,
            occurred_at=microseconds(event.occurred_at),
            actor_type=event.actor_type,
            actor_id=event.actor_id,
            entity_id=event.entity_id,
            tenant_id=event.tenant_id,
            correlation_id=event.correlation_id,
            causation_id=event.causation_id,
            schema_version=event.schema_version,
            idempotency_key=event.idempotency_key,
            content_hash=event.content_hash,
            payload=event.payload_json,
            metadata=known_good_json(event.metadata),
        )


def microseconds(time: datetime) -> int:
    """Microseconds since the Unix epoch, exactly (no float on the way)."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
