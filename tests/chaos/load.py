"""Events without end, the same for the same seed but for their ids and times."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

from penstock_schemas import Event

__all__ = ["events"]

_REPEATED = 0.01  # the share of keys that come again, as from a client that retries


def events(seed: int, *, entities: int = 40) -> Iterator[Event]:
    """Interleaved over entities; some keys come twice, with the same content."""
    chance, recent = random.Random(seed), list[Event]()
    number = 0
    while True:
        if recent and chance.random() < _REPEATED:
            yield chance.choice(recent).model_copy(update={"event_id": uuid.uuid4()})
            continue
        event = Event(
            event_type=f"test.{number % 7}",
            entity_id=f"entity-{chance.randrange(entities)}",
            idempotency_key=f"key-{seed}-{number:08d}",
            actor_id=f"actor-{number % 5}" if number % 3 else None,
            payload={"number": number, "text": "ünïcode" if number % 11 == 0 else "plain"},
            metadata={"tags": ["even" if number % 2 == 0 else "odd"]},
        )
        recent = [*recent[-99:], event]
        number += 1
        yield event
