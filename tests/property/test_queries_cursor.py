"""A cursor says where to go on, and nothing is lost on its way through text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_store._cursor import OrderBy, Position, decode_cursor, encode_cursor
from penstock_store.contract import QueryOptions
from penstock_store.read_errors import InvalidQuery

_KEYS = {
    OrderBy.TIME: st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    OrderBy.EVENT_ID: st.uuids(),
    OrderBy.SEQUENCE: st.none(),
}


@st.composite
def _positions(draw: st.DrawFn) -> Position:
    order_by = draw(st.sampled_from(OrderBy))
    return Position(
        order_by=order_by,
        descending=draw(st.booleans()),
        key=draw(_KEYS[order_by]),
        sequence=draw(st.integers(0, 2**63 - 1)),
    )


@given(_positions())
def test_a_position_survives_its_text(position: Position) -> None:
    text = encode_cursor(position)
    assert decode_cursor(text, position.order_by, descending=position.descending) == position
    assert text.replace("-", "").replace("_", "").isalnum()
    options = QueryOptions(cursor=text, order_by=position.order_by, descending=position.descending)
    assert options.position() == position


@given(_positions(), st.sampled_from(OrderBy), st.booleans())
def test_a_cursor_of_another_order_is_refused_by_name(
    position: Position, order_by: OrderBy, descending: bool
) -> None:
    if (order_by, descending) == (position.order_by, position.descending):
        return
    with pytest.raises(InvalidQuery, match="belongs to order_by="):
        QueryOptions(cursor=encode_cursor(position), order_by=order_by, descending=descending)


@given(_positions(), st.data())
def test_a_damaged_cursor_is_refused_or_another_position(position: Position, data: st.DataObject) -> None:
    """It may never raise anything else, whatever was cut or changed."""
    text = encode_cursor(position)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=2)) + text[at + 1 :]
    try:
        decoded = decode_cursor(damaged, position.order_by, descending=position.descending)
    except InvalidQuery:
        return
    assert decoded.order_by == position.order_by
