"""Events as lines: what a terminal, and a program, are given."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from penstock.history.lines import JsonArray, JsonLines, TableLines
from penstock_schemas import RecordedEvent

_AT = datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=UTC)


def _event(**changes: Any) -> RecordedEvent:
    values: dict[str, Any] = {
        "event_type": "order.placed",
        "entity_id": "42",
        "event_id": UUID(int=7),
        "occurred_at": _AT,
        "recorded_at": _AT,
        "sequence": 1,
    }
    return RecordedEvent(**(values | changes))


_LABEL = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=60
)


@given(
    st.lists(st.builds(_event, event_type=_LABEL, entity_id=_LABEL, actor_id=st.none() | _LABEL), min_size=1),
    st.integers(80, 200),
)
def test_a_table_fits_and_each_event_is_one_line(events: list[RecordedEvent], width: int) -> None:
    table = TableLines(width)
    text = table.begin(events) + "".join(map(table.line, events)) + table.end()
    lines = text.split("\n")[:-1]
    assert len(lines) == 1 + len(events)
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_columns_line_up_with_wide_characters(width: int) -> None:
    events = [
        _event(entity_id="日本語", actor_id="ann"),
        _event(entity_id="x", actor_id="ann", sequence=1_000_000),
    ]
    table = TableLines(width)
    header, *lines = (table.begin(events) + "".join(map(table.line, events))).splitlines()
    starts = {cell_len(line[: line.index("ann")]) for line in lines}
    assert starts == {header.index("actor")}
    assert "2026-01-31 10:00:00" in lines[0]
    assert "(UTC)" in header


@pytest.mark.parametrize("evil", ["\x1b[31m", "a\nb", "\u202egnp", "\x9b2J", "a\tb", "\r"])
def test_event_data_cannot_steer_the_terminal(evil: str) -> None:
    event = _event(entity_id=evil, event_type=evil, actor_id=evil, payload={evil: evil})
    table = TableLines(200)
    text = table.begin([event]) + table.line(event)
    assert text.count("\n") == 2
    assert not set(evil) & set("\x1b\u202e\x9b\t\r") & set(text)


def test_json_lines_hold_every_field() -> None:
    event = _event(payload={"big": 2**70, "n": 1.5, "text": "ü"}, metadata={"tags": ["a"]}, actor_id="ann")
    for payload in (event.payload, {"small": 1}):
        same = event.model_copy(update={"payload": payload})
        read = json.loads(JsonLines().line(same))
        assert RecordedEvent(**read) == same
        assert set(read) == set(RecordedEvent.model_fields)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_array_is_json_however_many_it_holds(count: int) -> None:
    events = [_event(sequence=number) for number in range(count)]
    lines = JsonArray()
    text = lines.begin(events) + "".join(map(lines.line, events)) + lines.end()
    assert [item["sequence"] for item in json.loads(text)] == list(range(count))
