"""`QueryOptions` in plain Python, for backends without a query language. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock_schemas import RecordedEvent
from penstock_store._cursor import OrderBy, Position, encode_cursor, position_of
from penstock_store.contract import DEFAULT_PAGE, MAX_PAGE, Page, QueryOptions
from penstock_store.read_errors import InvalidQuery

__all__ = ["ahead_of", "document_matches", "matches", "order_key", "page", "page_limit"]

_EQUAL = ("actor_id", "correlation_id", "entity_id", "tenant_id")


def matches(event: RecordedEvent, options: QueryOptions) -> bool:
    """Every filter holds; order, limit, offset and cursor aside."""
    for low, high, at in (
        (options.since, options.until, event.occurred_at),
        (options.recorded_since, options.recorded_until, event.recorded_at),
    ):
        if (low is not None and at < low) or (high is not None and at >= high):
            return False
    if options.after_sequence is not None and event.sequence <= options.after_sequence:
        return False
    if options.up_to_sequence is not None and event.sequence > options.up_to_sequence:
        return False
    if options.event_types and event.event_type not in options.event_types:
        return False
    for name in _EQUAL:
        wanted = getattr(options, name)
        if wanted is not None and wanted != getattr(event, name):
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
    if order_by is OrderBy.TIME:
        return lambda event: (event.occurred_at, event.sequence)
    if order_by is OrderBy.EVENT_ID:
        return lambda event: (event.event_id.int, event.sequence)
    return lambda event: event.sequence


def ahead_of(position: Position) -> Callable[[RecordedEvent], bool]:
    """Whether an event comes after the position, in its order and direction."""
    key: Any = position.key
    if position.order_by is OrderBy.EVENT_ID and key is not None:
        key = key.int
    start = position.sequence if position.order_by is OrderBy.SEQUENCE else (key, position.sequence)
    of = order_key(position.order_by)
    if position.descending:
        return lambda event: bool(of(event) < start)
    return lambda event: bool(of(event) > start)


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
