"""Rows of `penstock.events` as `RecordedEvent`, without validating again what was validated when it was
written.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, repeat
from struct import unpack
from typing import Any, Final
from uuid import UUID

import asyncpg
from pydantic import BaseModel

from penstock_schemas import RecordedEvent
from penstock_store._json import load_objects

__all__ = ["COLUMNS", "SELECTED", "events_of", "instants_of"]

COLUMNS: Final = (
    "sequence", "recorded_at", "event_id", "event_type", "occurred_at", "actor_type", "actor_id", "entity_id",
    "tenant_id", "correlation_id", "causation_id", "schema_version", "idempotency_key", "payload", "metadata",
)  # fmt: skip
# asyncpg makes a time in 0.5 µs, of these bytes `instants_of` does in half of that. They have names of
# their own, as rows are sorted by the columns'.
_SENT: Final = {
    "recorded_at": "timestamptz_send(recorded_at) AS recorded",
    "occurred_at": "timestamptz_send(occurred_at) AS occurred",
}
SELECTED: Final = tuple(_SENT.get(name, name) for name in COLUMNS)
# Rows made into events together, which saves calls. Python looks for garbage whenever 700 objects more are
# alive: with groups of 250 it did so five times as often, and that cost more than they saved.
_GROUP: Final = 50

# A validated event lends its private state, which no reader changes: events made here equal validated ones.
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MODEL: Final = RecordedEvent(
    event_type="-",
    entity_id="-",
    event_id=UUID(int=0),
    occurred_at=_EPOCH,
    recorded_at=_EPOCH,
    sequence=0,
)
# pydantic keeps an instance in four slots; their own setters are twice as fast as object.__setattr__.
_SLOTS: Final = tuple(
    BaseModel.__dict__[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
_SAME: Final = (repeat(set(COLUMNS)), repeat(None), repeat(_MODEL.__pydantic_private__))
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def instants_of(sent: Sequence[bytes]) -> list[datetime]:
    """Times as `timestamptz_send` says them. Equal ones are made once: a batch has one `recorded_at`."""
    ticks = unpack(f">{len(sent)}q", b"".join(sent))
    made = {tick: _POSTGRES_EPOCH + tick * _MICROSECOND for tick in set(ticks)}
    return [made[tick] for tick in ticks]


def events_of(rows: list[asyncpg.Record]) -> Iterator[RecordedEvent]:
    """Each row of `SELECTED`, jsonb as text; rows are taken off the list. About 1.7 µs a row; pydantic's
    model_construct takes 10.

    Written out by hand because a stream's speed is decided here.
    """
    return chain.from_iterable(iter(partial(_group_off, rows), []))


def _group_off(rows: list[asyncpg.Record]) -> list[RecordedEvent]:
    group, rows[:_GROUP] = rows[:_GROUP], []
    events = list(map(object.__new__, repeat(RecordedEvent, len(group))))
    contents: tuple[Iterable[Any], ...] = (_fields_of(group), *_SAME)
    for put, each in zip(_SLOTS, contents, strict=True):
        deque(map(put, events, each), maxlen=0)
    return events


def _fields_of(rows: Sequence[asyncpg.Record]) -> list[dict[str, Any]]:
    count = len(rows)
    times = instants_of([row[1] for row in rows] + [row[4] for row in rows])
    documents = load_objects([row[13] for row in rows] + [row[14] for row in rows])
    made = zip(rows, times[:count], times[count:], documents[:count], documents[count:], strict=True)
    return [
        {
            "event_type": event_type,
            "entity_id": entity_id,
            "payload": payload,
            "event_id": event_id,
            "occurred_at": occurred_at,
            "actor_type": actor_type,
            "actor_id": actor_id,
            "tenant_id": tenant_id,
            "correlation_id": correlation_id,
            "causation_id": causation_id,
            "schema_version": schema_version,
            "idempotency_key": key,
            "metadata": metadata,
            "sequence": sequence,
            "recorded_at": recorded_at,
        }
        for (sequence, _, event_id, event_type, _, actor_type, actor_id, entity_id, tenant_id, correlation_id,
             causation_id, schema_version, key, _, _), recorded_at, occurred_at, payload, metadata in made
    ]  # fmt: skip
