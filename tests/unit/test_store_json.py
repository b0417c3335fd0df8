"""JSON of the store is read exactly, and fast where nothing needs the slow way."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_store.postgresql import _json

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
def test_digits_inside_a_text_do_not_take_the_slow_way(digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash or a long id in one event of a chunk made the whole chunk ten times as slow."""
    monkeypatch.delattr(_json, "_exact")
    texts = [json.dumps({"note": digits}), json.dumps({"n": 12})]
    load = _json.loader_for(texts)
    assert [load(text) for text in texts] == [orjson.loads(text) for text in texts]
