"""The last step of decoding: defaults, limits, JSON. What leaves here PostgreSQL does not refuse."""

from datetime import UTC, datetime

from penstock_schemas._ids import uuid_text
from penstock_schemas._json_text import canonical_text, check_object
from penstock_schemas._text import check_identifier
from penstock_schemas.errors import DecodeError, DecodeReason
from penstock_schemas.event import content_hash as make_content_hash
from penstock_schemas.fields import EventFields, microseconds

_as_fields = tuple.__new__  # half the cost of calling EventFields
MIN_TIME = microseconds(datetime.min.replace(tzinfo=UTC))
MAX_TIME = microseconds(datetime.max.replace(tzinfo=UTC))
MAX_VERSION = 2**31 - 1

_SHORT = 256  # characters, of at most four bytes in UTF-8: below this, no identifier is beyond 1,024 bytes


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID in its usual spelling (8-4-4-4-12 hexadecimal digits).

    Raises ValueError for any other.
    """
    digits = text.replace("-", "")
    if len(text) == 36 and len(digits) == 32 and text[8:24:5] == "----":
        raw = bytes.fromhex(digits)
        if len(raw) == 16:  # fromhex skips spaces
            return raw
    raise ValueError("no UUID")


def finish(
    event_id: bytes,
    event_type: str,
    occurred_at: int,
    actor_type: str | None,
    actor_id: str | None,
    entity_id: str,
    tenant_id: str,
    correlation_id: str | None,
    causation_id: str | None,
    schema_version: int,
    idempotency_key: str | None,
    content_hash: bytes | None,
    payload: bytes,
    metadata: bytes,
) -> EventFields:
    """The event of what was read.

    An empty text in a nullable field counts as null: some languages have no other way to say it.
    """
    if not correlation_id or not idempotency_key:
        own_id = uuid_text(event_id)
        correlation_id = correlation_id or own_id
        idempotency_key = idempotency_key or own_id
    fields = _as_fields(
        EventFields,
        (
            event_id,
            event_type,
            occurred_at,
            actor_type or None,
            actor_id or None,
            entity_id,
            tenant_id,
            correlation_id,
            causation_id or None,
            schema_version,
            idempotency_key,
            content_hash or b"",
            payload,
            metadata,
        ),
    )
    # One look at all identifiers together: a closer one costs more than the decoding, and is hardly ever
    # needed. (None is as good as text.)
    text = (
        f"{event_type}{entity_id}{tenant_id}{correlation_id}"
        f"{idempotency_key}{actor_type}{actor_id}{causation_id}"
    )
    if "\0" in text or len(text) > _SHORT or not (event_type and entity_id and tenant_id):
        _check_identifiers(fields)
    if not MIN_TIME <= occurred_at <= MAX_TIME:
        raise _invalid(f"occurred_at: is {occurred_at} µs, which is outside the years 1 to 9999")
    if not 1 <= schema_version <= MAX_VERSION:
        raise _invalid(f"schema_version: is {schema_version}, not within 1 to {MAX_VERSION}")
    check_object(payload, "payload")
    if metadata != b"{}":
        check_object(metadata, "metadata")
    if content_hash is None:
        return fields._replace(content_hash=make_content_hash(event_type, entity_id, canonical_text(payload)))
    if len(content_hash) != 16:
        raise _invalid(f"content_hash: has {len(content_hash)} bytes, not 16")
    return fields


def _check_identifiers(fields: EventFields) -> None:
    for name, value in zip(EventFields._fields, fields, strict=True):  # all that is text identifies something
        if not isinstance(value, str):
            continue
        try:
            check_identifier(value)
        except ValueError as error:
            reason = DecodeReason.NUL if "\0" in value else DecodeReason.INVALID_FIELD
            raise DecodeError(reason, f"{name}: {error}") from None


def _invalid(message: str) -> DecodeError:
    return DecodeError(DecodeReason.INVALID_FIELD, message)
