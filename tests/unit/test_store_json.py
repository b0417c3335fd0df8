"""JSON of the store is read exactly, and fast where nothing needs the slow way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_store import _json

_SCALARS = st.integers(-(2**70), 2**70) | st.text("0123456789 ,:-[a", max_size=30) | st.booleans() | st.none()
_OBJECTS = st.dictionaries(
    st.text("0123456789 k,:", max_size=25),
    st.recursive(
        _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("k12"), inner)
    ),
    max_size=4,
)


@given(st.lists(_OBJECTS, max_size=3))
def test_whole_numbers_stay_exact_wherever_they_are(values: list[dict[str, object]]) -> None:
    assert _json.load_objects([json.dumps(value) for value in values]) == values


@pytest.mark.parametrize("digits", ["d4" + "1" * 24, "1" * 24])
def test_digits_inside_a_text_do_not_take_the_slow_way(digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash or a long id in one event of a chunk made the whole chunk slower, by the half of it."""
    behind_it = {"note": digits, "n": 2**70}
    assert _json.load_objects([json.dumps(behind_it)]) == [behind_it]
    monkeypatch.delattr(_json, "_exact")
    values = [{"note": digits}, {"n": 12}]
    assert _json.load_objects([json.dumps(value) for value in values]) == values


def test_what_looks_like_a_number_in_one_event_slows_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = json.dumps({"note": f"at {'1' * 24}"})
    taken: list[str] = []
    monkeypatch.setattr(_json, "_exact", lambda text: taken.append(text) or json.loads(text))
    plain = [json.dumps({"note": "d4" + "1" * 24}), json.dumps({"n": 12})]
    assert _json.load_objects([slow, *plain]) == [json.loads(text) for text in (slow, *plain)]
    assert taken == [slow]
