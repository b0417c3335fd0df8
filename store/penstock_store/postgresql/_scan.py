"""One read as a series of statements: keyset chunks, window after window. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from penstock_store._cursor import OrderBy, Position
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._select import Statement, select_events
from penstock_store.postgresql._windows import Window

__all__ = ["Scan"]

_KEY_COLUMN: Final = {OrderBy.TIME: "occurred_at", OrderBy.EVENT_ID: "event_id"}


class Scan:
    """`first()` and then `next(rows)` with the rows of the statement before, until there is None."""

    def __init__(
        self,
        options: QueryOptions,
        windows: Sequence[Window],
        *,
        ceiling: int | None,
        chunk: int,
        limit: int | None,
    ) -> None:
        self._options = options
        self._windows = windows
        self._ceiling = ceiling
        self._chunk = chunk
        self._remaining = limit
        self._offset = options.offset
        self._position = options.position()
        self._window = 0
        self._asked = 0

    @property
    def looks(self) -> bool:
        """Some partition is read. In a new store the first one may appear after the catalogue was asked."""
        return bool(self._windows)

    def first(self) -> Statement | None:
        """The statement to begin with; None where no partition can hold an answer."""
        return self._statement()

    def next(self, rows: Sequence[Any]) -> Statement | None:
        """The statement that goes on after `rows`; None: that was all."""
        self._offset = 0
        if rows:
            self._position = self._after(rows[-1])
        if self._remaining is not None:
            self._remaining -= len(rows)
        if len(rows) < self._asked:
            self._window += 1
        return self._statement()

    def _statement(self) -> Statement | None:
        if self._window >= len(self._windows) or self._remaining == 0:
            return None
        self._asked = self._chunk if self._remaining is None else min(self._chunk, self._remaining)
        return select_events(
            self._options,
            window=self._windows[self._window],
            ceiling=self._ceiling,
            position=self._position,
            limit=self._asked,
            offset=self._offset,
        )

    def _after(self, row: Any) -> Position:
        column = _KEY_COLUMN.get(self._options.order_by)
        return Position(
            order_by=self._options.order_by,
            descending=self._options.descending,
            key=None if column is None else row[column],
            sequence=row["sequence"],
        )
