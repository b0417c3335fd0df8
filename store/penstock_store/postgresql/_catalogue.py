"""The question to the catalogue `penstock.partitions`: which of them a read may have to look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from penstock_store._common import EVERYTHING
from penstock_store._cursor import OrderBy, Position
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._prints import printed_values, prints_condition

__all__ = ["AROUND", "at_once", "by_id", "catalogue", "catalogue_of_id", "next_tick", "part"]

# Figures are null until a partition is sealed. Every sequence of a partition is below those of later ones:
# writers draw while they hold the lock that a roll takes exclusively.
_CATALOGUE: Final = """
SELECT mark.ceiling, p.name, p.lower, p.upper, p.state = 'current' AS is_current,
       p.first_occurred_at, p.last_occurred_at, {common} AS common_tags
FROM penstock.safe_sequence() AS mark (ceiling) LEFT JOIN penstock.partitions AS p
  ON p.state IN ('current', 'closed') AND p.rows IS DISTINCT FROM 0
 AND ($1::bigint IS NULL OR p.last_sequence IS NULL OR p.last_sequence > $1)
 AND ($2::bigint IS NULL OR p.first_sequence IS NULL OR p.first_sequence <= $2)
 AND ($3::timestamptz IS NULL OR p.last_occurred_at IS NULL OR p.last_occurred_at >= $3)
 AND ($4::timestamptz IS NULL OR p.first_occurred_at IS NULL OR p.first_occurred_at < $4)
 AND ($5::timestamptz IS NULL OR p.upper > $5)
 AND ($6::timestamptz IS NULL OR p.lower < $6){prints}
ORDER BY {order}{limit}
"""
_COMMON: Final = """ARRAY(
    SELECT DISTINCT tag FROM penstock.partitions AS sealed, unnest(sealed.common_tags) AS tag
    WHERE sealed.state = 'closed' AND tag = ANY ({tags}::text[]))"""
# Partitions: a page rarely needs more, and 400 rows cost the client more than the page. Those that the prints
# name hold one event at least, of a page's usual 100.
_PART: Final = 64
_PRINTED_PART: Final = 100

# A UUIDv7 says when it was made, and most events are recorded soon after: two partitions before all of them.
AROUND: Final = """
SELECT name, lower, upper, state = 'current' AS is_current FROM penstock.partitions
WHERE state IN ('current', 'closed') AND upper > $1 ORDER BY lower LIMIT 2
"""
_ORDER: Final = {  # by time?, descending?; what has no figures yet may hold the first of all
    (False, False): "p.lower",
    (False, True): "p.lower DESC",
    (True, False): "p.first_occurred_at NULLS FIRST",
    (True, True): "p.last_occurred_at DESC NULLS FIRST",
}
_TICK: Final = timedelta(microseconds=1)
_LAST_TICK: Final = datetime.max.replace(tzinfo=UTC)


def catalogue(options: QueryOptions, *, whole: bool = False) -> tuple[str, list[Any]]:
    """The question to the catalogue, with every bound that the options and their cursor imply; unless
    `whole`, for the beginning of what they read.
    """
    values = _bounds(options, options.position())
    order, limit = "p.lower", ""
    if by_id(options):
        limit = " LIMIT 1"
    elif not whole and not at_once(options):
        order, limit = (
            _ORDER[options.order_by is OrderBy.TIME, options.descending],
            f" LIMIT {part(options)}",
        )
    tags = options.tags if len(options.tags) > 1 else ()  # one tag alone is looked for as it is
    return _asked(values, printed_values(options), tags=tags, order=order, limit=limit)


def catalogue_of_id(event_id: UUID) -> tuple[str, list[Any]]:
    """The question which partitions can hold an event."""
    return _asked([None] * 6, [("event_id", [str(event_id)])])


def by_id(options: QueryOptions) -> bool:
    """Order by event id of all events, which has a plan of its own: it needs to know of no partition."""
    plain = options.replace(
        order_by=OrderBy.SEQUENCE, descending=False, cursor=None, limit=None, skip_corrupted=False
    )
    return options.order_by is OrderBy.EVENT_ID and not options.offset and plain == EVERYTHING


def part(options: QueryOptions) -> int:
    return _PRINTED_PART if printed_values(options) else _PART


def at_once(options: QueryOptions) -> bool:
    return bool(options.offset) or options.order_by is OrderBy.EVENT_ID


def _asked(
    values: list[Any],
    prints: Sequence[tuple[str, Sequence[str]]],
    *,
    tags: Sequence[str] = (),
    order: str = "p.lower",
    limit: str = "",
) -> tuple[str, list[Any]]:
    def bind(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    common = _COMMON.format(tags=bind(list(tags))) if tags else "'{}'::text[]"
    printed = prints_condition(prints, bind)
    return _CATALOGUE.format(common=common, prints=printed, order=order, limit=limit), values


def _bounds(options: QueryOptions, position: Position | None) -> list[Any]:
    after, up_to = options.after_sequence, options.up_to_sequence
    since, until = options.since, options.until
    if position is not None and options.order_by is OrderBy.SEQUENCE:
        if options.descending:
            up_to = position.sequence if up_to is None else min(up_to, position.sequence)
        else:
            after = position.sequence if after is None else max(after, position.sequence)
    if position is not None and isinstance(position.key, datetime):
        if not options.descending:
            since = position.key if since is None else max(since, position.key)
        elif (end := next_tick(position.key)) is not None:
            until = end if until is None else min(until, end)
    return [after, up_to, since, until, options.recorded_since, options.recorded_until]


def next_tick(time: datetime) -> datetime | None:
    return time + _TICK if time < _LAST_TICK else None
