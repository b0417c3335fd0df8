"""One read as a series of statements: keyset chunks, window after window. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from penstock_store._cursor import OrderBy, Position
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._rows import instants_of
from penstock_store.postgresql._select import Statement, select_events
from penstock_store.postgresql._windows import Slices

__all__ = ["Scan"]

# A statement costs as much as planning a few slices more. Times as many as before where those held nothing:
_BLIND: Final = 4
_GROWTH: Final = 16  # and at most, for each event that they held: one event alone says little
_KEY: Final[dict[OrderBy, Callable[[Any], datetime | UUID]]] = {
    OrderBy.TIME: lambda row: instants_of([row["occurred"]])[0],
    OrderBy.EVENT_ID: lambda row: row["event_id"],
}


class Scan:
    """`first()` and then `next(rows)` with the rows of the statement before, until there is None.

    The first statement looks into one slice, each later one into as many as may hold what is still missing,
    going by the one before: a full page looks at few partitions, and a selective filter passes hundreds in a
    handful of statements.
    """

    def __init__(
        self,
        options: QueryOptions,
        slices: Slices,
        *,
        ceiling: int | None,
        chunk: int,
        limit: int | None,
    ) -> None:
        self._options = options
        self._slices = slices
        # Some partition is read. In a new store the first one may appear after the catalogue was asked.
        self.looks = bool(slices)
        self._ceiling = ceiling
        self._chunk = chunk
        self._remaining = limit
        self._offset = options.offset
        self._position = options.position()
        self._start, self._size = 0, 1
        self._found = 0
        self._asked = 0

    def first(self) -> Statement | None:
        """The statement to begin with; None where no partition can hold an answer."""
        return self._statement()

    def next(self, rows: Sequence[Any]) -> Statement | None:
        """The statement that goes on after `rows`; None: that was all."""
        self._offset = 0
        self._found += len(rows)
        if self._remaining is not None:
            self._remaining -= len(rows)
        if len(rows) == self._asked:
            self._position = self._after(rows[-1])
        else:
            self._advance()
        return self._statement()

    def rest(self) -> QueryOptions | None:
        """What the whole catalogue has to be asked for when there was no statement; None: that was really
        all.
        """
        return None if self._remaining == 0 else self._slices.rest()

    def go_on(self, slices: Slices) -> Statement | None:
        """With the rest of the slices, which lie behind those before."""
        self._slices, self._start = slices, 0
        return self._statement()

    def _advance(self) -> None:
        missing = self._chunk if self._remaining is None else self._remaining
        self._start += self._size
        if self._found:  # and the spread of chance, so that it is rarely one too few
            wanted = math.ceil((missing + 2 * math.sqrt(missing)) * self._size / self._found)
            self._size = min(wanted, _GROWTH * self._found * self._size)
        else:
            self._size *= _BLIND
        self._found = 0
        # What was seen lies before this window: as a condition it would only cost planning.
        self._position = self._options.position()

    def _statement(self) -> Statement | None:
        if self._start >= len(self._slices) or self._remaining == 0:
            return None
        self._asked = self._chunk if self._remaining is None else min(self._chunk, self._remaining)
        self._size = min(self._size, len(self._slices) - self._start)
        return select_events(
            self._options,
            window=self._slices.window(self._start, self._start + self._size),
            common_tags=self._slices.common_tags,
            ceiling=self._ceiling,
            position=self._position,
            limit=self._asked,
            offset=self._offset,
        )

    def _after(self, row: Any) -> Position:
        key = _KEY.get(self._options.order_by)
        return Position(
            order_by=self._options.order_by,
            descending=self._options.descending,
            key=None if key is None else key(row),
            sequence=row["sequence"],
        )
