"""Which partitions a read has to look at, from the catalogue `penstock.partitions`.

PostgreSQL prunes by `recorded_at` at once, and by the CHECK constraints of sealed partitions only after it
has opened every one of them. So a read first asks the catalogue, together with the safe mark, and then says
the bounds itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from penstock_store._cursor import OrderBy, Position
from penstock_store.contract import QueryOptions

__all__ = ["AROUND", "CATALOGUE", "Window", "catalogue_values", "hull_of", "windows_of"]

# Figures are null until a partition is sealed. Every sequence of a partition is below those of later ones:
# writers draw while they hold the lock that a roll takes exclusively.
CATALOGUE: Final = """
SELECT mark.ceiling, p.lower, p.upper, p.state = 'current' AS is_current
FROM penstock.safe_sequence() AS mark (ceiling) LEFT JOIN penstock.partitions AS p
  ON p.state IN ('current', 'closed') AND p.rows IS DISTINCT FROM 0
 AND ($1::bigint IS NULL OR p.last_sequence IS NULL OR p.last_sequence > $1)
 AND ($2::bigint IS NULL OR p.first_sequence IS NULL OR p.first_sequence <= $2)
 AND ($3::timestamptz IS NULL OR p.last_occurred_at IS NULL OR p.last_occurred_at >= $3)
 AND ($4::timestamptz IS NULL OR p.first_occurred_at IS NULL OR p.first_occurred_at < $4)
 AND ($5::timestamptz IS NULL OR p.upper > $5)
 AND ($6::timestamptz IS NULL OR p.lower < $6)
ORDER BY p.lower
"""

# A UUIDv7 says when it was made, and most events are recorded soon after: two partitions before all of them.
AROUND: Final = """
SELECT lower, upper, state = 'current' AS is_current FROM penstock.partitions
WHERE state IN ('current', 'closed') AND upper > $1 ORDER BY lower LIMIT 2
"""


@dataclass(frozen=True, slots=True)
class Window:
    """recorded_at from `start`, before `end`. None: open, as the current partition may be rolled."""

    start: datetime | None
    end: datetime | None


class _Row(Protocol):
    def __getitem__(self, name: str, /) -> Any: ...


def catalogue_values(options: QueryOptions, position: Position | None) -> list[Any]:
    """What the catalogue is asked with: every bound that the options and the position imply."""
    after, up_to = options.after_sequence, options.up_to_sequence
    since, until = options.since, options.until
    if position is not None and options.order_by is OrderBy.SEQUENCE:
        if options.descending:
            up_to = position.sequence if up_to is None else min(up_to, position.sequence)
        else:
            after = position.sequence if after is None else max(after, position.sequence)
    if position is not None and isinstance(position.key, datetime) and not options.descending:
        since = position.key if since is None else max(since, position.key)
    return [after, up_to, since, until, options.recorded_since, options.recorded_until]


def hull_of(rows: Sequence[_Row]) -> list[Window]:
    """One window around all the partitions; none where there is no partition."""
    spans = _spans(rows)
    return [Window(spans[0].start, spans[-1].end)] if spans else []


def _spans(rows: Sequence[_Row]) -> list[Window]:
    return [Window(row["lower"], None if row["is_current"] else row["upper"]) for row in rows if row["lower"]]


def windows_of(rows: Sequence[_Row], options: QueryOptions) -> list[Window]:
    """The windows to read one after another; none where no partition can hold an answer.

    By sequence one, two, four, … partitions, so that a full page looks at few of them and a selective
    filter still passes hundreds in a handful of statements. Another order, or an offset, needs all at once.
    """
    if options.order_by is not OrderBy.SEQUENCE or options.offset:
        return hull_of(rows)
    spans = _spans(rows)
    if options.descending:
        spans.reverse()
    groups = []
    width, taken = 1, 0
    while taken < len(spans):
        group = spans[taken : taken + width]
        first, last = (group[-1], group[0]) if options.descending else (group[0], group[-1])
        groups.append(Window(first.start, last.end))
        taken, width = taken + width, width * 2
    return groups
