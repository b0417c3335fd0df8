"""Events as rows: their fields in PostgreSQL's binary form, with what deduplication asks for beside them.

Hot: what looks unrolled here was measured (`python -m benchmarks.decode`).
"""

from functools import lru_cache
from struct import Struct
from typing import Final, TypeAlias

from penstock_schemas.fields import EventFields

__all__ = ["NULL", "POSTGRES_EPOCH", "SIXTEEN", "Row", "json_head", "length", "row_of", "time_cell"]

Row: TypeAlias = tuple[tuple[str, str], bytes, bytes, bytes]
"""((tenant, idempotency key), content hash, event id, cells).

The cells are the fields of `EventFields` in their order, each after its length in bytes (four, big-endian; -1
for null), as binary COPY takes them. A plain tuple: naming its places would cost a twentieth of the decoding.
"""

POSTGRES_EPOCH: Final = 946_684_800_000_000
"""2000-01-01, from which PostgreSQL counts, in microseconds since the Unix epoch."""
NULL: Final = b"\xff\xff\xff\xff"
length: Final = Struct(">i").pack
SIXTEEN: Final = length(16)
time_cell: Final = Struct(">iq").pack
"""(8, microseconds since `POSTGRES_EPOCH`)."""
json_head: Final = Struct(">iB").pack
"""(bytes of the text + 1, 1): jsonb's version follows its length."""
_version = Struct(">ii").pack
# Identifiers have at most 1024 bytes; longer values are packed one by one.
_LENGTHS: Final = tuple(length(n) for n in range(1025))


def row_of(fields: EventFields) -> Row:
    """The row of an event that was decoded, or never was on the wire."""
    (
        event_id, event_type, occurred_at, actor_type, actor_id, entity_id, tenant_id, correlation_id,
        causation_id, schema_version, idempotency_key, content_hash, payload, metadata,
    ) = fields  # fmt: skip
    entity = entity_id.encode()
    correlation = correlation_id.encode()
    key = idempotency_key.encode()
    cells = b"".join((
        SIXTEEN, event_id,
        _cell(event_type),
        time_cell(8, occurred_at - POSTGRES_EPOCH),
        _cell(actor_type),
        NULL if actor_id is None else _text(actor_id),
        _LENGTHS[len(entity)] if len(entity) < 1025 else length(len(entity)), entity,
        _cell(tenant_id),
        _LENGTHS[len(correlation)] if len(correlation) < 1025 else length(len(correlation)), correlation,
        NULL if causation_id is None else _text(causation_id),
        _version(4, schema_version),
        _LENGTHS[len(key)] if len(key) < 1025 else length(len(key)), key,
        length(len(content_hash)), content_hash,
        json_head(len(payload) + 1, 1), payload,
        json_head(len(metadata) + 1, 1), metadata,
    ))  # fmt: skip
    return (tenant_id, idempotency_key), content_hash, event_id, cells


def _text(value: str) -> bytes:
    data = value.encode()
    return length(len(data)) + data


@lru_cache(maxsize=4096)
def _cell(value: str | None) -> bytes:
    """Of columns with few distinct values."""
    return NULL if value is None else _text(value)
