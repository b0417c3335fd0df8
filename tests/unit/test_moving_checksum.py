"""Checksums of events: equal exactly for equal events, however a store spells or orders them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.history import random_event
from penstock_schemas import RecordedEvent
from penstock_store.moving._checksum import Sums, content_digest

_AT = datetime(2026, 1, 1, tzinfo=UTC)


def _event(**fields: Any) -> RecordedEvent:
    return RecordedEvent(
        **{
            "event_type": "a",
            "entity_id": "e",
            "event_id": UUID(int=1),
            "occurred_at": _AT,
            "recorded_at": _AT,
            "sequence": 1,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 1e16}, {"n": 10**16}),
        ({"n": 1e300}, {"n": 10**300}),
        ({"n": -0.0}, {"n": 0.0}),
        ({"n": [1.5e-7]}, {"n": [0.00000015]}),
        ({"a": 1, "b": "1.50"}, {"b": "1.50", "a": 1}),
    ],
)
def test_what_jsonb_spells_otherwise_is_the_same(one: Any, other: Any) -> None:
    assert content_digest(_event(payload=one)) == content_digest(_event(payload=other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"payload": {"n": 1}}, {"payload": {"n": True}}),
        ({"payload": {"n": "1.0"}}, {"payload": {"n": "1"}}),
        ({"payload": {"n": "1.0"}}, {"payload": {"n": 1.0}}),
        ({"payload": {"n": 2**53}}, {"payload": {"n": 2**53 + 1}}),
        ({"payload": {"n": r"\"1.0"}}, {"payload": {"n": r"\"1"}}),
        ({"payload": {}, "metadata": {"n": 1}}, {"payload": {"n": 1}, "metadata": {}}),
        ({"actor_id": None}, {"actor_id": "-"}),
        ({"actor_id": "a", "actor_type": None}, {"actor_id": None, "actor_type": "a"}),
        ({"event_type": "ab", "entity_id": "c"}, {"event_type": "a", "entity_id": "bc"}),
        ({"occurred_at": _AT}, {"occurred_at": _AT + timedelta(microseconds=1)}),
    ],
)
def test_another_value_is_another_checksum(one: Any, other: Any) -> None:
    assert content_digest(_event(**one)) != content_digest(_event(**other))


def test_every_field_counts() -> None:
    base = _event(actor_type="user", actor_id="a", causation_id="c", metadata={"k": 1}, payload={"k": 1})
    changed = {
        "event_id": UUID(int=2),
        "schema_version": 2,
        "payload": {"k": 2},
        "metadata": {"k": 2},
        "occurred_at": _AT + timedelta(seconds=1),
    }
    names = set(RecordedEvent.model_fields) - {"sequence", "recorded_at"}
    for name in names:
        other = base.model_copy(update={name: changed.get(name, "other")})
        assert content_digest(other) != content_digest(base), name
    moved = base.model_copy(update={"sequence": 9, "recorded_at": _AT + timedelta(days=1)})
    assert content_digest(moved) == content_digest(base)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_order_of_reading_changes_the_order_alone(seed: int, shuffle: int) -> None:
    rng = random.Random(seed)
    events = [
        RecordedEvent(**dict(random_event(rng)), sequence=n + 1, recorded_at=_AT)
        for n in range(rng.randrange(30))
    ]
    mixed = random.Random(shuffle).sample(events, len(events))
    one, other = Sums(), Sums()
    for event in events:
        one.add(event)
    for event in mixed:
        other.add(event)
    assert (one.count, one.checksum, one.placed, one.timed) == (
        other.count,
        other.checksum,
        other.placed,
        other.timed,
    )
    assert not list(one.differing(other))
    assert (one.order == other.order) == ([e.event_id for e in events] == [e.event_id for e in mixed])


def test_two_of_one_event_are_not_none() -> None:
    none, twice = Sums(), Sums()
    twice.add(_event())
    twice.add(_event())
    assert list(none.differing(twice))
    assert none.checksum != twice.checksum
