"""Rows become the events that validation would have made of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from struct import pack
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from penstock_schemas import RecordedEvent
from penstock_store.postgresql._rows import COLUMNS, events_of, instants_of

_MICROSECOND = timedelta(microseconds=1)
_TIMES = st.datetimes(timezones=st.just(UTC))


def _sent(time: datetime) -> bytes:
    """What PostgreSQL's timestamptz_send says: microseconds since 2000."""
    return pack(">q", (time - datetime(2000, 1, 1, tzinfo=UTC)) // _MICROSECOND)


def _event(sequence: int, **fields: Any) -> RecordedEvent:
    return RecordedEvent(
        event_type="order.placed",
        entity_id="order-1",
        event_id=UUID(int=sequence),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC) + sequence * _MICROSECOND,
        recorded_at=datetime(2026, 1, 2, tzinfo=UTC),
        sequence=sequence,
        **{"payload": {"lines": [{"n": 1}]}, "metadata": {"tags": ["a"]}, **fields},
    )


def _row(event: RecordedEvent) -> Any:
    """A tuple: a driver's row is unpacked and indexed like one."""
    forms = {dict: json.dumps, datetime: _sent}
    values = [getattr(event, name) for name in COLUMNS]
    return tuple(forms.get(type(value), lambda value: value)(value) for value in values)  # type: ignore[operator]


@given(st.lists(_TIMES, max_size=5))
def test_every_time_is_read_to_the_microsecond(times: list[datetime]) -> None:
    assert instants_of([_sent(time) for time in times]) == times


def test_events_equal_validated_ones_in_groups_of_any_size() -> None:
    for count in (0, 1, 49, 50, 51, 120):
        events = [_event(n, actor_id="someone", payload={"n": n, "big": 2**70}) for n in range(count)]
        rows = [_row(event) for event in events]
        read = list(events_of(rows))
        assert read == events
        assert [event.model_dump() for event in read] == [event.model_dump() for event in events]
        assert rows == []  # what was made into events is not kept beside them


def test_a_reader_owns_the_documents_of_each_event() -> None:
    first, second = events_of([_row(_event(1)), _row(_event(2))])
    first.payload["lines"].append("mine")  # type: ignore[union-attr]
    first.metadata["tags"].append("mine")  # type: ignore[union-attr]
    assert second == _event(2)
