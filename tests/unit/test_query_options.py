"""Options refuse what no query can mean, when they are made and with words that help."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_store._json import load_objects
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.errors import StoreError
from penstock_store.read_errors import InvalidQuery

_NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001 - without a zone is the point
        ({"recorded_until": "yesterday"}, "recorded_until"),
        ({"until": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))}, "until"),
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 1_000_001}, "offset"),
        ({"after_sequence": 2**63}, "after_sequence"),
        ({"up_to_sequence": 1.5}, "up_to_sequence"),
        ({"event_types": "order.placed"}, "event_types"),
        ({"event_types": [1]}, "event_types"),
        ({"tags": ["a"] * 1_001}, "tags"),
        ({"actor_id": "a\0b"}, "actor_id"),
        ({"entity_id": "\ud800"}, "entity_id"),
        ({"tenant_id": 7}, "tenant_id"),
        ({"payload": [1]}, "payload"),
        ({"payload": {"n": float("nan")}}, "payload"),
        ({"payload": {"a": "\0"}}, "payload"),
        ({"payload": {"a": {"\0": 1}}}, "payload"),
        ({"payload": {"a": "\udfff"}}, "payload"),
        ({"payload": {"at": _NOW}}, "payload"),
        ({"payload": {"a": "x" * 70_000}}, "payload"),
        ({"order_by": "name; DROP TABLE events"}, "order_by"),
        ({"cursor": "!"}, "cursor"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidQuery, match=names) as refused:
        QueryOptions(**wrong)
    assert isinstance(refused.value, StoreError)
    assert isinstance(refused.value, ValueError)


def test_options_do_not_change() -> None:
    payload = {"a": {"b": [1]}}
    options = QueryOptions(payload=payload, event_types=["b", "a", "b"])
    payload["a"]["b"].append(2)
    assert options.payload == {"a": {"b": [1]}}
    assert options.event_types == ("a", "b")
    with pytest.raises(FrozenInstanceError):
        options.limit = 5  # type: ignore[misc]
    assert options.replace(limit=7).limit == 7
    assert options.limit is None


def test_text_about_nul_is_no_nul() -> None:
    assert QueryOptions(payload={"a": "\\u0000"}).payload == {"a": "\\u0000"}


def test_times_of_any_zone_are_the_same_instant() -> None:
    there = _NOW.astimezone(timezone(timedelta(hours=5)))
    assert QueryOptions(since=there) == QueryOptions(since=_NOW)


@given(st.text(max_size=300) | st.binary(max_size=60).map(lambda raw: raw.hex()), st.sampled_from(OrderBy))
def test_no_text_is_taken_for_a_cursor(text: str, order_by: OrderBy) -> None:
    with pytest.raises(InvalidQuery):
        QueryOptions(cursor=text, order_by=order_by)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"]))
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def _text(value: object) -> str:
    return json.dumps(value)


@given(st.lists(st.dictionaries(st.text(max_size=3), _JSON, max_size=3), max_size=4))
def test_json_is_read_without_loss(documents: list[dict[str, Any]]) -> None:
    texts = [_text(document) for document in documents]
    read = load_objects(texts)
    assert read == documents
    assert [_text(value) for value in read] == texts  # 1 stays 1 and 1.0 stays 1.0


def test_endless_numbers_stay_readable() -> None:
    assert load_objects(['{"n": 123456789012345678}']) == [{"n": 123456789012345678}]
    digits = "9" * 5_000
    assert load_objects([f'{{"n": {digits}}}']) == [{"n": digits}]
