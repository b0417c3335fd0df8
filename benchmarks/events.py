"""The events that are measured: deterministic, of about 230 bytes of Avro, with time-ordered keys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from penstock_schemas import Event

_START = datetime(2026, 1, 1, tzinfo=UTC)


def events(count: int, *, seed: int = 1, entities: int = 10_000, types: int = 10) -> Iterator[Event]:
    """`count` events over `entities` entities and `types` event types."""
    chance = random.Random(seed)
    for number in range(count):
        entity = chance.randrange(entities)
        yield Event(
            event_type=f"order.step_{chance.randrange(types)}",
            entity_id=f"order-{entity:08d}",
            correlation_id=f"order-{entity:08d}",
            actor_type="user",
            actor_id=f"user-{chance.randrange(500)}",
            occurred_at=_START + timedelta(milliseconds=number),
            payload={
                "amount": chance.randrange(100_000),
                "currency": "EUR",
                "note": f"{chance.getrandbits(128):032x}",
            },
            metadata={"tags": ["bench"]},
        )
