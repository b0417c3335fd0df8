"""The quick way to canonical JSON gives the very bytes of the careful one, for everything that one takes."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock_schemas import Event
from penstock_schemas._text import MAX_JSON_DEPTH, canonical_json, check_object, known_good_json

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(math.ldexp, st.floats(-1, 1), st.integers(-80, 80)),
    st.integers(-30, 30).map(lambda exponent: 10.0**exponent),
    st.decimals(allow_nan=False, allow_infinity=False, places=5).map(float).filter(math.isfinite),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), floats, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=5))
@example({"a": 1e16, "b": 1e15, "c": 1e-4, "d": 1e-5, "e": -0.0, "f": 123456789012345680.0})
@example({"a": 2**63, "b": 2**64, "c": -(2**63) - 1})
@example({"ﬀ": 1, "𐀀": 2, "\x7f": "\x1f\u2028", "a": '/\\"'})
@example({"hash": "1e5", "n": [0.00001, [-0.00002]], "z": {"0.0000": 5}})
def test_both_ways_give_the_same_bytes(value: dict[str, object]) -> None:
    text = known_good_json(value)
    assert text == canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    # Whole numbers of 1e16 and more have lost their being a float, nothing else.
    assert json.loads(text, parse_int=float) == json.loads(json.dumps(value), parse_int=float)


anything = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.sampled_from(["\0", "\\u0000", "\ud800"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), anything, max_size=3))
@example({"a": math.nan, "b": None})
@example({"\0": 1})
@example({"brackets": "[" * 300})
def test_the_quick_check_refuses_what_the_careful_way_does(value: dict[str, object]) -> None:
    assert said(check_object, value) == said(canonical_json, value)


@pytest.mark.parametrize("depth", [MAX_JSON_DEPTH - 1, MAX_JSON_DEPTH, MAX_JSON_DEPTH + 1, 300, 1_100])
def test_the_quick_check_refuses_the_same_depths(depth: int) -> None:
    value: dict[str, object] = {"text": "x" * 400}
    for _ in range(depth):
        value = {"a": value}
    assert said(check_object, value) == said(canonical_json, value)


def said(check: Callable[[dict[str, object]], object], value: dict[str, object]) -> str:
    try:
        check(value)
    except ValueError as error:
        return str(error)
    return ""


def test_what_looks_like_an_exponent_in_a_string_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock_schemas._text.canonical_json", None)
    for value in ({"id": ["4e5f0.0000"]}, {"s": ["1e5"]}, {"t": {"a": "a, 1 e"}}):
        assert known_good_json(value) == json.dumps(value, separators=(",", ":")).encode()


@given(st.dictionaries(texts, values, max_size=3))
def test_an_event_has_one_hash_whoever_computes_it(payload: dict[str, object]) -> None:
    from penstock_schemas.event import content_hash

    event = Event(event_type="t", entity_id="e", payload=payload)
    assert event.content_hash == content_hash("t", "e", canonical_json(payload))
    assert event.payload_json is event.payload_json
    assert event == Event.model_validate(event.model_dump())
