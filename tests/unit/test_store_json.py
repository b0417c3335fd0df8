"""JSON of the store is read exactly, and fast where nothing needs the slow way."""

from __future__ import annotations

import json

import orjson
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


@given(_OBJECTS)
def test_whole_numbers_stay_exact_wherever_they_are(value: dict[str, object]) -> None:
    text = json.dumps(value)
    assert _json.loader_for([text])(text) == value


@pytest.mark.parametrize("digits", ["d4" + "1" * 24, "1" * 24])
def test_digits_inside_a_text_do_not_take_the_slow_way(digits: str) -> None:
    """A hash or a long id in one event of a chunk made the whole chunk slower, by the half of it."""
    assert _json.loader_for([json.dumps({"note": digits}), json.dumps({"n": 12})]) is orjson.loads
    behind_it = json.dumps({"note": digits, "n": 2**70})
    assert _json.loader_for([behind_it])(behind_it) == {"note": digits, "n": 2**70}


def test_what_looks_like_a_number_in_one_event_slows_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_json, "_exact")
    plain = [json.dumps({"note": "d4" + "1" * 24}), json.dumps({"n": 12})]
    load = _json.loader_for([json.dumps({"note": f"at {'1' * 24}"}), *plain])
    assert [load(text) for text in plain] == [orjson.loads(text) for text in plain]
