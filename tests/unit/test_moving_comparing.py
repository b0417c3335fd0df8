"""What a comparison says of differences that were planted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from penstock_schemas import RecordedEvent
from penstock_store.contract import EventReader, Page, QueryOptions
from penstock_store.moving import compare_stores

_AT = datetime(2026, 1, 1, tzinfo=UTC)


class _Listed:
    """A store that may hold an id twice, as one may that PostgreSQL workers fed."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        self._events = events

    async def get_events(self, _options: QueryOptions) -> Page:
        return Page(events=tuple(self._events[-1:]), has_more=False, next_cursor=None)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        return next((event for event in self._events if event.event_id == event_id), None)

    async def stream(self, _options: QueryOptions) -> AsyncGenerator[RecordedEvent, None]:
        for event in self._events:
            yield event


def _store(*held: tuple[int, int]) -> EventReader:
    """Of (id, amount)."""
    listed = [
        RecordedEvent(
            event_id=UUID(int=name),
            event_type="t",
            entity_id="e",
            occurred_at=_AT,
            correlation_id="c",
            payload={"n": amount},
            sequence=place,
            recorded_at=_AT,
        )
        for place, (name, amount) in enumerate(held, 1)
    ]
    return cast(EventReader, cast(Any, _Listed(listed)))


@pytest.mark.parametrize(
    ("source", "target", "missing", "extra", "different"),
    [
        ([(1, 1), (2, 2)], [(1, 1), (2, 2)], 0, 0, 0),
        ([(1, 1), (2, 2)], [(2, 2)], 1, 0, 0),
        ([(2, 2)], [(1, 1), (2, 2)], 0, 1, 0),
        ([(1, 1), (2, 2)], [(1, 9), (2, 2)], 0, 0, 1),
        ([(1, 1)], [(1, 1), (1, 1)], 0, 1, 0),  # doubled by whatever filled the target
        ([(1, 1)], [(2, 2), (2, 2), (1, 1)], 0, 2, 0),
        ([(1, 1), (1, 1)], [(1, 1)], 0, 0, 0),  # its key was forgotten in between: left out, not lost
        ([(1, 1), (1, 5)], [(1, 1)], 1, 0, 0),  # the second says something else, and is lost
        ([(1, 1), (1, 5)], [(1, 1), (1, 6)], 0, 0, 1),
    ],
)
async def test_planted_differences_are_counted(
    source: list[tuple[int, int]], target: list[tuple[int, int]], missing: int, extra: int, different: int
) -> None:
    found = await compare_stores(_store(*source), _store(*target), patience=0.1)
    assert (found.missing, found.extra, found.different) == (missing, extra, different)
    assert found.complete is not bool(missing or different)
    assert found.equal is (sorted(source) == sorted(target))
