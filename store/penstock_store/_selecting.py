"""What `QueryOptions` choose and in which order: as data for those that have a query language, else in plain
Python. Pure.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from penstock_schemas import RecordedEvent
from penstock_store._cursor import OrderBy, Position, encode_cursor, position_of
from penstock_store.contract import DEFAULT_PAGE, MAX_PAGE, Page, QueryOptions
from penstock_store.read_errors import InvalidQuery

__all__ = [
    "COMPARED",
    "SORTED_BY",
    "ahead_of",
    "document_matches",
    "matches",
    "order_key",
    "page",
    "page_limit",
]

COMPARED: Final = (  # a field of the event, how, and with which option where that is given
    ("occurred_at", ">=", "since"),
    ("occurred_at", "<", "until"),
    ("recorded_at", ">=", "recorded_since"),
    ("recorded_at", "<", "recorded_until"),
    ("sequence", ">", "after_sequence"),
    ("sequence", "<=", "up_to_sequence"),
    ("actor_id", "=", "actor_id"),
    ("correlation_id", "=", "correlation_id"),
    ("entity_id", "=", "entity_id"),
    ("tenant_id", "=", "tenant_id"),
)
SORTED_BY: Final = {
    OrderBy.TIME: ("occurred_at", "sequence"),
    OrderBy.EVENT_ID: ("event_id", "sequence"),
    OrderBy.SEQUENCE: ("sequence",),
}
_OPERATORS: Final = {
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    "=": operator.eq,
}


def matches(event: RecordedEvent, options: QueryOptions) -> bool:
    """Every filter holds; order, limit, offset and cursor aside."""
    for name, sign, option in COMPARED:
        wanted = getattr(options, option)
        if wanted is not None and not _OPERATORS[sign](getattr(event, name), wanted):
            return False
    if options.event_types and event.event_type not in options.event_types:
        return False
    return document_matches(event.payload, event.metadata, options)


def document_matches(payload: Mapping[str, Any], metadata: Mapping[str, Any], options: QueryOptions) -> bool:
    """The filters on metadata and payload hold."""
    if options.tags and not set(options.tags) <= set(metadata.get("tags", ())):
        return False
    return not options.payload or _contains(payload, options.payload)


def _contains(whole: Any, part: Any) -> bool:
    """As jsonb's `@>` below the top: objects by key, arrays as sets, numbers by value, booleans are none."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and _contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(
            any(_contains(have, wanted) for have in whole) for wanted in part
        )
    if isinstance(whole, dict | list) or isinstance(whole, bool) is not isinstance(part, bool):
        return False
    return bool(whole == part)


def order_key(order_by: OrderBy) -> Callable[[RecordedEvent], Any]:
    """What to sort by."""
    return operator.attrgetter(*SORTED_BY[order_by])


def ahead_of(position: Position) -> Callable[[RecordedEvent], bool]:
    """Whether an event comes after the position, in its order and direction."""
    start: Any = position.sequence if position.key is None else (position.key, position.sequence)
    of, ahead = order_key(position.order_by), operator.lt if position.descending else operator.gt
    return lambda event: bool(ahead(of(event), start))


def page_limit(options: QueryOptions) -> int:
    """Events in the page asked for. Raises `InvalidQuery`."""
    limit = DEFAULT_PAGE if options.limit is None else options.limit
    if limit > MAX_PAGE:
        raise InvalidQuery(
            f"limit is {limit:,}; a page holds at most {MAX_PAGE:,} events. Page by cursor, or use stream()."
        )
    return limit


def page(found: Iterable[RecordedEvent], options: QueryOptions, limit: int) -> Page:
    """The page of `found`, which has one event more than `limit` where more follow."""
    events = tuple(found)
    shown = events[:limit]
    cursor = None
    if shown:
        cursor = encode_cursor(position_of(shown[-1], options.order_by, descending=options.descending))
    return Page(events=shown, has_more=len(events) > limit, next_cursor=cursor)
