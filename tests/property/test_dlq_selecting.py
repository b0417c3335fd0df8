"""Which dead letters are meant, and how records and offsets are written on the command line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dlq.offsets import parse_offsets, parse_record
from penstock_consumer.dlq import Letter, Mark, Place, Selection, State

START = datetime(2026, 1, 1, tzinfo=UTC)
PLACES = st.builds(
    Place,
    st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    st.text(max_size=22),
    st.integers(0, 3),
    st.integers(0, 30),
)
TIMES = st.integers(0, 20).map(lambda minutes: START + timedelta(minutes=minutes))
CAUSES = st.sampled_from(["truncated", "unknown_schema", "key_conflict"])
TYPES = st.none() | st.sampled_from(["order.placed", "order.paid"])
LETTERS = st.builds(
    Letter,
    place=PLACES,
    partition=st.just(0),
    offset=st.integers(0, 99),
    at=TIMES,
    timestamp=st.none(),
    group=st.just("g"),
    cause=CAUSES,
    stage=st.just(""),
    exception=st.just(""),
    message=st.just(""),
    attempts=st.integers(0, 5),
    reference=st.just(False),
    key=st.none(),
    value=st.binary(max_size=3),
    headers=st.just(()),
    state=st.sampled_from(State),
    event_type=TYPES,
)
PARTS: dict[str, st.SearchStrategy[object]] = {
    "states": st.lists(st.sampled_from(State), min_size=1).map(tuple),
    "causes": st.frozensets(CAUSES, min_size=1),
    "event_types": st.frozensets(TYPES.filter(bool), min_size=1),
    "since": TIMES,
    "until": TIMES,
    "partition": st.integers(0, 3),
    "first_offset": st.integers(0, 30),
    "next_offset": st.integers(0, 31),
}
SELECTIONS = st.fixed_dictionaries({}, optional=PARTS)


@given(LETTERS, SELECTIONS)
def test_a_selection_is_the_and_of_its_parts(letter: Letter, parts: dict[str, object]) -> None:
    alone = [Selection(**{name: value}).matches(letter) for name, value in parts.items()]  # type: ignore[arg-type]
    assert Selection(**parts).matches(letter) is all(alone)  # type: ignore[arg-type]


@given(LETTERS, SELECTIONS, st.sampled_from(State))
def test_only_the_state_and_the_type_may_change_what_a_place_says(
    letter: Letter, parts: dict[str, object], state: State
) -> None:
    selection = Selection(**parts)  # type: ignore[arg-type]
    assert selection.matches_place(letter) is selection.matches_place(replace(letter, state=state))
    if selection.matches(letter):
        assert selection.matches_place(letter)


@given(SELECTIONS)
def test_what_narrows_is_anything_but_the_state(parts: dict[str, object]) -> None:
    assert Selection(**parts).narrows is bool(parts.keys() - {"states"})  # type: ignore[arg-type]
    assert not Selection(causes=frozenset(), states=(State.OPEN,)).narrows


@given(st.integers(0, 10**18), st.integers(0, 10**18))
def test_spans_are_half_open(one: int, other: int) -> None:
    assert parse_offsets(str(one)) == (one, one + 1)
    assert parse_offsets(f"{one}:") == (one, None)
    assert parse_offsets(f":{other}") == (None, other)
    if one < other:
        assert parse_offsets(f"{one}:{other}") == (one, other)
    else:
        with pytest.raises(ValueError, match="holds no offset"):
            parse_offsets(f"{one}:{other}")


@given(PLACES)
def test_a_record_reads_as_it_is_written(place: Place) -> None:
    assert parse_record(str(place)) == (place.topic, place.partition, place.offset)


@pytest.mark.parametrize("text", ["", ":", "a", "-1", "1:2:3", "1.5", "٣", "1 2"])
def test_other_offsets_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="Write 17"):
        parse_offsets(text)


@pytest.mark.parametrize(
    "text", ["", "orders", "orders:0", "orders:0@", "orders:x@1", "a b:0@1", "orders:0@1@2"]
)
def test_other_records_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="orders:0@17"):
        parse_record(text)


@given(
    PLACES, st.sampled_from([State.REDRIVEN, State.DISCARDED]), TIMES, st.text(), st.none() | st.integers(0)
)
def test_a_mark_reads_as_it_is_written(
    place: Place, state: State, at: datetime, reason: str, to_offset: int | None
) -> None:
    mark = Mark(place=place, state=state, at=at, reason=reason, to_offset=to_offset, to_partition=to_offset)
    assert Mark.from_json(mark.to_json()) == mark
