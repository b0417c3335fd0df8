"""The opaque text of a page's cursor: the order it belongs to and the key of the last event seen."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from penstock_store.read_errors import InvalidQuery

if TYPE_CHECKING:
    from penstock_schemas import RecordedEvent

__all__ = ["OrderBy", "Position", "decode_cursor", "encode_cursor", "position_of"]

_VERSION = 1
_LONGEST = 256  # what we make is far shorter: a longer text is not ours
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class OrderBy(StrEnum):
    """What a page is sorted by; equal keys by sequence, so that every order is total."""

    TIME = "time"  # occurred_at
    EVENT_ID = "event_id"  # as bytes; UUIDv7 sort by the time they were made
    SEQUENCE = "sequence"  # the order in which the store took the events: replay order


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a read goes on: after the event with this key; `sequence` breaks ties, as keys may repeat."""

    order_by: OrderBy
    descending: bool
    key: datetime | UUID | None  # None where the order is the sequence itself
    sequence: int


def position_of(event: "RecordedEvent", order_by: OrderBy, *, descending: bool) -> Position:
    """The position right after `event` in that order."""
    keys: dict[OrderBy, datetime | UUID | None] = {
        OrderBy.TIME: event.occurred_at,
        OrderBy.EVENT_ID: event.event_id,
        OrderBy.SEQUENCE: None,
    }
    return Position(order_by=order_by, descending=descending, key=keys[order_by], sequence=event.sequence)


def encode_cursor(position: Position) -> str:
    """URL-safe text without padding."""
    key: int | str | None = None
    if isinstance(position.key, datetime):
        key = (position.key - _EPOCH) // _MICROSECOND
    elif position.key is not None:
        key = position.key.hex
    fields = [_VERSION, position.order_by.value, position.descending, key, position.sequence]
    return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode("ascii")


def decode_cursor(text: str, order_by: OrderBy, *, descending: bool) -> Position:
    """Raise `InvalidQuery` where the text is not a cursor, or belongs to another order."""
    try:
        order, backwards, position = _decode(text)
    except (ValueError, TypeError, OverflowError, binascii.Error):  # orjson's error is a ValueError
        raise InvalidQuery(
            f"The cursor {text[:40]!r} is not one that get_events returned."
            " Pass Page.next_cursor unchanged, or none."
        ) from None
    if (order, backwards) != (order_by, descending):
        raise InvalidQuery(
            f"The cursor belongs to order_by={order.value!r}, descending={backwards!r}, and the query asks"
            f" for order_by={order_by.value!r}, descending={descending!r}."
            " Keep the order while paging, or drop the cursor."
        )
    return position


def _decode(text: str) -> tuple[OrderBy, bool, Position]:
    if len(text) > _LONGEST:
        raise ValueError("too long")
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    version, order_name, backwards, key, sequence = orjson.loads(
        base64.b64decode(padded, b"-_", validate=True)
    )
    if (
        version != _VERSION
        or type(backwards) is not bool
        or type(sequence) is not int
        or abs(sequence) >= 2**63
    ):
        raise ValueError("unknown form")
    order = OrderBy(order_name)
    position = Position(order_by=order, descending=backwards, key=_key(order, key), sequence=sequence)
    return order, backwards, position


def _key(order: OrderBy, key: object) -> datetime | UUID | None:
    if order is OrderBy.TIME and isinstance(key, int):
        return _EPOCH + key * _MICROSECOND
    if order is OrderBy.EVENT_ID and isinstance(key, str):
        return UUID(hex=key)
    if order is OrderBy.SEQUENCE and key is None:
        return None
    raise ValueError("the key does not fit the order")
