"""Which partitions a read has to look at, from the catalogue `penstock.partitions`.

PostgreSQL prunes by `recorded_at` at once, and by the CHECK constraints of sealed partitions only after it
has opened every one of them. So a read first asks the catalogue, together with the safe mark, and then says
the bounds itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Protocol
from uuid import UUID

from penstock_store._cursor import OrderBy, Position
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._prints import printed_values, prints_condition

__all__ = ["AROUND", "EVERYWHERE", "Window", "catalogue", "catalogue_of_id", "window_around", "windows_of"]

# Figures are null until a partition is sealed. Every sequence of a partition is below those of later ones:
# writers draw while they hold the lock that a roll takes exclusively.
_CATALOGUE: Final = """
SELECT mark.ceiling, p.lower, p.upper, p.state = 'current' AS is_current,
       p.first_occurred_at, p.last_occurred_at
FROM penstock.safe_sequence() AS mark (ceiling) LEFT JOIN penstock.partitions AS p
  ON p.state IN ('current', 'closed') AND p.rows IS DISTINCT FROM 0
 AND ($1::bigint IS NULL OR p.last_sequence IS NULL OR p.last_sequence > $1)
 AND ($2::bigint IS NULL OR p.first_sequence IS NULL OR p.first_sequence <= $2)
 AND ($3::timestamptz IS NULL OR p.last_occurred_at IS NULL OR p.last_occurred_at >= $3)
 AND ($4::timestamptz IS NULL OR p.first_occurred_at IS NULL OR p.first_occurred_at < $4)
 AND ($5::timestamptz IS NULL OR p.upper > $5)
 AND ($6::timestamptz IS NULL OR p.lower < $6){prints}
ORDER BY p.lower
"""

# A UUIDv7 says when it was made, and most events are recorded soon after: two partitions before all of them.
AROUND: Final = """
SELECT lower, upper, state = 'current' AS is_current FROM penstock.partitions
WHERE state IN ('current', 'closed') AND upper > $1 ORDER BY lower LIMIT 2
"""
_GROWTH: Final = 4  # a statement costs as much as planning a few more partitions
_TICK: Final = timedelta(microseconds=1)
_LAST_TICK: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """recorded_at from `start`, before `end`. None: open, as the current partition may be rolled."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Window:
    """Within any of `spans`, or anywhere where there is none; occurred_at from `since`, before `until`."""

    spans: tuple[Span, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


EVERYWHERE: Final = Window()


class _Row(Protocol):
    def __getitem__(self, name: str, /) -> Any: ...


def catalogue(options: QueryOptions, position: Position | None) -> tuple[str, list[Any]]:
    """The question to the catalogue, with every bound that the options and the position imply."""
    return _asked(_bounds(options, position), printed_values(options))


def catalogue_of_id(event_id: UUID) -> tuple[str, list[Any]]:
    """The question which partitions can hold an event."""
    return _asked([None] * 6, [("event_id", [str(event_id)])])


def _asked(values: list[Any], prints: Sequence[tuple[str, Sequence[str]]]) -> tuple[str, list[Any]]:
    def bind(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    return _CATALOGUE.format(prints=prints_condition(prints, bind)), values


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
        elif (end := _next_tick(position.key)) is not None:
            until = end if until is None else min(until, end)
    return [after, up_to, since, until, options.recorded_since, options.recorded_until]


def _next_tick(time: datetime) -> datetime | None:
    return time + _TICK if time < _LAST_TICK else None


def window_around(rows: Sequence[_Row]) -> list[Window]:
    """One window of all the partitions; none where there is no partition."""
    leaves = _leaves(rows)
    return [Window(_spans(leaves))] if leaves else []


def _leaves(rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if row["lower"]]


def _spans(leaves: Sequence[_Row]) -> tuple[Span, ...]:
    """Of leaves in the order of time; neighbours become one span."""
    spans: list[Span] = []
    for leaf in leaves:
        end = None if leaf["is_current"] else leaf["upper"]
        start = spans.pop().start if spans and spans[-1].end == leaf["lower"] else leaf["lower"]
        spans.append(Span(start, end))
    return tuple(spans)


def windows_of(rows: Sequence[_Row], options: QueryOptions) -> list[Window]:
    """The windows to read one after another; none where no partition can hold an answer.

    One, four, sixteen, … partitions, so that a full page looks at few of them and a selective filter still
    passes hundreds in a handful of statements. By id, or with an offset, it needs all at once.
    """
    leaves = _leaves(rows)
    if options.offset or options.order_by is OrderBy.EVENT_ID:
        return window_around(leaves)
    if options.order_by is OrderBy.TIME:
        return _time_slices(leaves, descending=options.descending)
    if options.descending:
        leaves.reverse()
    groups = [leaves[start:end] for start, end in pairwise([*_starts(len(leaves)), len(leaves)])]
    return [Window(_spans(group[::-1] if options.descending else group)) for group in groups]


def _starts(count: int) -> list[int]:
    """Of the groups of one, four, sixteen, … among `count`."""
    starts, start, size = [], 0, 1
    while start < count:
        starts.append(start)
        start += size
        size *= _GROWTH
    return starts


def _time_slices(leaves: Sequence[_Row], *, descending: bool) -> list[Window]:
    """Slices of occurred_at, each with the partitions that reach into it; one not sealed has any time."""
    edges = _edges(leaves, descending=descending)
    ends = [None, *edges, None]
    slices = []
    for since, until in pairwise(ends):
        inside = [leaf for leaf in leaves if _reaches(leaf, since, until)]
        if inside:
            slices.append(Window(_spans(inside), since, until))
    return slices[::-1] if descending else slices


def _edges(leaves: Sequence[_Row], *, descending: bool) -> list[datetime]:
    """Ascending. Each slice from the side where the read begins has one, four, … partitions more."""
    sealed = [leaf for leaf in leaves if leaf["first_occurred_at"] is not None]
    if descending:
        times = sorted((leaf["last_occurred_at"] for leaf in sealed), reverse=True)
    else:
        times = sorted(leaf["first_occurred_at"] for leaf in sealed)
    picked = [times[start] for start in _starts(len(times))[1:]]
    return sorted({edge for time in picked if (edge := _next_tick(time) if descending else time) is not None})


def _reaches(leaf: _Row, since: datetime | None, until: datetime | None) -> bool:
    first, last = leaf["first_occurred_at"], leaf["last_occurred_at"]
    if first is None:
        return True
    return (until is None or first < until) and (since is None or last >= since)
