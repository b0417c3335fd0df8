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

from penstock_store._cursor import OrderBy
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._catalogue import at_once, next_tick, part

__all__ = ["EVERYWHERE", "Slices", "Span", "Window", "window_around"]


@dataclass(frozen=True, slots=True)
class Span:
    """recorded_at from `start`, before `end`. None: open, as the current partition may be rolled."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Window:
    """Within any of `spans`, or anywhere where there is none; occurred_at from `since`, before `until`.

    The spans are those of the partitions `closed`, by name, and `current`.
    """

    spans: tuple[Span, ...] = ()
    closed: tuple[str, ...] = ()
    current: tuple[Span, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


EVERYWHERE: Final = Window()


class _Row(Protocol):
    def __getitem__(self, name: str, /) -> Any: ...


def window_around(rows: Sequence[_Row]) -> list[Window]:
    """One window of all the partitions; none where there is no partition."""
    leaves = _leaves(rows)
    return [_window(leaves)] if leaves else []


def _leaves(rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if row["lower"]]


def _window(leaves: Sequence[_Row], since: datetime | None = None, until: datetime | None = None) -> Window:
    return Window(
        _spans(leaves),
        tuple(leaf["name"] for leaf in leaves if not leaf["is_current"]),
        _spans([leaf for leaf in leaves if leaf["is_current"]]),
        since,
        until,
    )


def _spans(leaves: Sequence[_Row]) -> tuple[Span, ...]:
    """Of leaves in the order of time; neighbours become one span."""
    spans: list[Span] = []
    for leaf in leaves:
        end = None if leaf["is_current"] else leaf["upper"]
        start = spans.pop().start if spans and spans[-1].end == leaf["lower"] else leaf["lower"]
        spans.append(Span(start, end))
    return tuple(spans)


class Slices:
    """What a read passes, in its order: partitions; by time, slices of occurred_at with the partitions that
    reach into them; by id, or with an offset, one slice of everything. Neighbours may share a window.

    `rows`: what `catalogue` asked for by `options`, `whole` as it was asked. What lies in one slice comes
    before all that lies in the next.
    """

    def __init__(self, rows: Sequence[_Row], options: QueryOptions, *, whole: bool = False) -> None:
        self._options = options
        self.common_tags: frozenset[str] = frozenset(rows[0]["common_tags"]) if rows else frozenset()
        self._leaves = sorted(_leaves(rows), key=lambda leaf: leaf["lower"])
        self._cut = len(rows) == part(options) and not whole and not at_once(options)
        # Between the ends of slices by time; else there is one for each partition.
        self._ends: list[datetime | None] | None = None
        if options.order_by is OrderBy.TIME and not at_once(options):
            self._ends = self._ends_of_time(whole=whole)

    def __len__(self) -> int:
        if not self._leaves or at_once(self._options):
            return min(1, len(self._leaves))
        return len(self._leaves) if self._ends is None else len(self._ends) - 1

    def window(self, start: int, end: int) -> Window:
        """Of the slices `start` to before `end`, which must be some."""
        if at_once(self._options):
            return _window(self._leaves)
        if self._options.descending:
            start, end = len(self) - end, len(self) - start
        if self._ends is None:
            return _window(self._leaves[start:end])
        since, until = self._ends[start], self._ends[end]
        return _window([leaf for leaf in self._leaves if _reaches(leaf, since, until)], since, until)

    def rest(self) -> QueryOptions | None:
        """What to ask the whole catalogue for where the slices were only the beginning."""
        if not self._cut:
            return None
        return self._behind_leaves() if self._ends is None else self._behind_ends(self._ends)

    def _behind_leaves(self) -> QueryOptions | None:
        if self._options.descending:
            return self._options.replace(recorded_until=self._leaves[0]["lower"])
        last = self._leaves[-1]  # the current one's span is open: it was read with all that follows
        return None if last["is_current"] else self._options.replace(recorded_since=last["upper"])

    def _behind_ends(self, ends: list[datetime | None]) -> QueryOptions:
        edge = ends[0 if self._options.descending else -1]
        if edge is None:  # none has figures yet
            return self._options
        if self._options.descending:
            until = self._options.until
            return self._options.replace(until=edge if until is None else min(edge, until))
        since = self._options.since
        return self._options.replace(since=edge if since is None else max(edge, since))

    def _ends_of_time(self, *, whole: bool) -> list[datetime | None]:
        """Ascending. Each slice from the side where the read begins has one partition more; those that were
        left out have no time within, and of the rest nothing may lie in the slices before.
        """
        since, until, descending = self._options.since, self._options.until, self._options.descending
        edges: list[datetime | None] = [
            edge
            for edge in _edges(self._leaves, descending=descending)
            if (since is None or edge > since) and (until is None or edge < until)
        ]
        first, last = (since, until) if whole else (None, None)
        if self._cut:
            return [*edges, last] if descending else [first, *edges]
        return [first, *edges, last]


def _edges(leaves: Sequence[_Row], *, descending: bool) -> list[datetime]:
    """Ascending. Each slice from the side where the read begins has one partition more."""
    sealed = [leaf for leaf in leaves if leaf["first_occurred_at"] is not None]
    if descending:
        ends = {next_tick(leaf["last_occurred_at"]) for leaf in sealed}
        return sorted(edge for edge in ends if edge is not None)[:-1]
    return sorted({leaf["first_occurred_at"] for leaf in sealed})[1:]


def _reaches(leaf: _Row, since: datetime | None, until: datetime | None) -> bool:
    """One not sealed may have any time."""
    first, last = leaf["first_occurred_at"], leaf["last_occurred_at"]
    if first is None:
        return True
    return (until is None or first < until) and (since is None or last >= since)
