"""One event as one line of JSON that ends with its own checksum. Pure.

`left` says how many lines of the same batch follow, so that a batch cut off by a crash is recognised;
`crc32` covers every byte of the line before its own comma.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import orjson

from penstock_schemas import RecordedEvent
from penstock_schemas._ids import uuid_text
from penstock_schemas.fields import EventFields, microseconds
from penstock_store._json import load_objects
from penstock_store._recorded import instant
from penstock_store._selecting import document_matches
from penstock_store.contract import QueryOptions

__all__ = ["COLUMNS", "CorruptLine", "encode_line", "head", "index_row", "read_event"]

COLUMNS: Final = (
    "sequence", "event_id", "event_type", "occurred", "recorded", "actor_id", "entity_id", "tenant_id",
    "correlation_id", "key", "hash", "at", "length",
)  # fmt: skip
_TAIL: Final = len(b',"crc32":"00000000"}')
_NAMES: Final = tuple(RecordedEvent.model_fields)


class CorruptLine(Exception):
    """What is wrong with a line."""


def encode_line(fields: EventFields, sequence: int, recorded_at: datetime, left: int) -> bytes:
    """The line with its line feed."""
    head = orjson.dumps(
        {
            "sequence": sequence,
            "recorded_at": recorded_at.isoformat(),
            "event_id": uuid_text(fields.event_id),
            "event_type": fields.event_type,
            "occurred_at": instant(fields.occurred_at).isoformat(),
            "actor_type": fields.actor_type,
            "actor_id": fields.actor_id,
            "entity_id": fields.entity_id,
            "tenant_id": fields.tenant_id,
            "correlation_id": fields.correlation_id,
            "causation_id": fields.causation_id,
            "schema_version": fields.schema_version,
            "idempotency_key": fields.idempotency_key,
            "content_hash": fields.content_hash.hex(),
        }
    )
    body = b'%b,"left":%d,"payload":%b,"metadata":%b' % (head[:-1], left, fields.payload, fields.metadata)
    return b'%b,"crc32":"%08x"}\n' % (body, crc32(body))


def head(line: bytes) -> dict[str, Any]:
    """The members before the payload: all that the index keeps. Raises `CorruptLine`."""
    _check(line)
    # No text in them can look like this: it would have its quotes escaped.
    loaded: dict[str, Any] = orjson.loads(line[: line.index(b',"payload":')] + b"}")
    return loaded


def _check(line: bytes) -> None:
    body, tail = line[: -_TAIL - 1], line[-_TAIL - 1 :]
    if tail != b',"crc32":"%08x"}\n' % crc32(body):
        raise CorruptLine("the checksum does not fit the line")


def index_row(loaded: dict[str, Any], at: int, length: int) -> tuple[Any, ...]:
    """What the index keeps of a line's `head` and its place, in the order of `COLUMNS`."""
    return (
        loaded["sequence"],
        bytes.fromhex(loaded["event_id"].replace("-", "")),
        loaded["event_type"],
        microseconds(datetime.fromisoformat(loaded["occurred_at"])),
        _recorded(loaded["recorded_at"]),
        loaded["actor_id"],
        loaded["entity_id"],
        loaded["tenant_id"],
        loaded["correlation_id"],
        loaded["idempotency_key"],
        bytes.fromhex(loaded["content_hash"]),
        at,
        length,
    )


@lru_cache(maxsize=16)
def _recorded(text: str) -> int:
    """Lines that were written together have one time."""
    return microseconds(datetime.fromisoformat(text))


def read_event(line: bytes, options: QueryOptions) -> RecordedEvent | None:
    """The event of a line where it passes the filters on documents: making it costs more than looking.

    Raises `CorruptLine`.
    """
    _check(line)
    (loaded,) = load_objects((line.decode(),))
    if not document_matches(loaded["payload"], loaded["metadata"], options):
        return None
    return RecordedEvent(**{name: loaded[name] for name in _NAMES})
