"""The events that are measured: deterministic but for their ids; by default of about 230 bytes of Avro."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_schemas import Event, EventPayload

_START = datetime(2026, 1, 1, tzinfo=UTC)
_NOTE = {"small": 32, "medium": 1_800, "large": 19_800}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a topic holds."""

    count: int
    size: str = "small"
    """small, medium or large: a value of about 200 bytes, 2 kB or 20 kB."""
    types: int = 10
    random_keys: bool = False
    """Ids of chance (UUIDv4) instead of time-ordered ones (UUIDv7)."""
    duplicates: float = 0.0
    """Share of the records that repeat an earlier event."""


def events(load: Load, *, seed: int = 1, entities: int = 10_000) -> Iterator[Event]:
    """The events of a load, repeated ones as the same object."""
    chance = random.Random(seed)
    recent: list[Event] = []
    for number in range(load.count):
        if recent and chance.random() < load.duplicates:
            yield chance.choice(recent)
            continue
        event = _event(chance, number, load, f"order-{chance.randrange(entities):08d}")
        if load.duplicates:
            recent = [*recent[-999:], event]
        yield event


def _event(chance: random.Random, number: int, load: Load, entity: str) -> Event:
    note = f"{chance.getrandbits(4 * _NOTE[load.size]):0{_NOTE[load.size]}x}"
    own: dict[str, Any] = {"event_id": uuid.UUID(int=chance.getrandbits(128), version=4)}
    return Event(
        event_type=f"order.step_{chance.randrange(load.types)}",
        entity_id=entity,
        correlation_id=entity,
        actor_type="user",
        actor_id=f"user-{chance.randrange(500)}",
        occurred_at=_START + timedelta(milliseconds=number),
        payload={"amount": chance.randrange(100_000), "currency": "EUR", "note": note},
        metadata={"tags": ["bench"]},
        **(own if load.random_keys else {}),
    )


class OrderStep(EventPayload, event_type="order.step"):
    """The typed counterpart of the same payload."""

    amount: int
    currency: str
    note: str
