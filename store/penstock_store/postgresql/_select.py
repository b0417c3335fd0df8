"""SELECT statements over `penstock.events`: every value bound, every identifier from an allow-list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

from penstock_store._cursor import Position
from penstock_store._selecting import COMPARED, SORTED_BY
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._catalogue import by_id
from penstock_store.postgresql._rare import as_json, rare_tags, rare_value
from penstock_store.postgresql._rows import COLUMNS, SELECTED
from penstock_store.postgresql._windows import Span, Window

__all__ = ["Statement", "select_event", "select_events"]

_SELECT: Final = f"SELECT {', '.join(SELECTED)} FROM"
_SELECT_WITHIN: Final = f"SELECT {', '.join(COLUMNS)} FROM"  # a union, of which `_SELECT` selects
_MORE: Final = 4  # times as many events as are wanted may have a value that is looked for as a rare one
_FIRST: Final = (UUID(int=0), -1)
_LAST: Final = (UUID(int=2**128 - 1), 2**63 - 1)


@dataclass(slots=True)
class Statement:
    """Text with $1, $2, … and the values for them; of `spans` an event has to lie in one."""

    source: str = "penstock.events"
    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    spans: list[str] = field(default_factory=list)
    rare: str = ""  # the call that finds those of closed partitions; refused where a value is not rare,
    otherwise: Callable[[], Statement] | None = None  # and then this one answers
    first: str = ""  # the order, and how many are wanted at most
    tail: str = ""  # of the whole; `first` where no offset leaves some of those out

    @property
    def text(self) -> str:
        # Spans joined by OR are all planned for each of their partitions: 64 took 40 ms, one by one 12. Each
        # with its own order and limit, without which all of them would be read and sorted.
        events = [self._events(self.source, [*self.conditions, span]) for span in self.spans]
        if self.rare:
            events.append(self._events(self.rare, self.conditions))
        if len(events) > 1:
            union = " UNION ALL ".join(f"({_SELECT_WITHIN} {one}{self.first})" for one in events)
            return f"{_SELECT} ({union}) AS events{self.tail}"
        return f"{_SELECT} {events[0] if events else self._events(self.source, self.conditions)}{self.tail}"

    def _events(self, source: str, conditions: Sequence[str]) -> str:
        return f"{source} WHERE {' AND '.join(conditions)}" if conditions else source

    def bind(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def where(self, comparison: str, value: object | None) -> None:
        if value is not None:
            self.conditions.append(f"{comparison} {self.bind(value)}")


def select_events(
    options: QueryOptions,
    *,
    window: Window,
    ceiling: int | None,
    position: Position | None,
    limit: int,
    offset: int = 0,
    common_tags: Collection[str] = (),
    planned: bool = False,
) -> Statement:
    """At most `limit` events of `options`, in order, after `position`; within `window` and not above
    `ceiling`. `common_tags` are not looked for in the index where it knows a rarer one. `planned`: by a
    plan for the values at hand, whatever they are.
    """
    if by_id(options):
        return _by_id(position, limit, descending=options.descending)
    statement = Statement()
    for name, sign, option in COMPARED:
        statement.where(f"{name} {sign}", getattr(options, option))
    _types_and_documents(statement, options, common_tags)
    # "+ 0": a pair of bounds on one column counts as 0.5 % of a partition without statistics, of which the
    # planner sorts all for each chunk. Above the ceiling there are but the writers of the moment.
    statement.where("sequence + 0 <=", ceiling)
    rare = None if planned else rare_value(options, window, common_tags)
    _within(statement, window, window.current if rare else window.spans)
    if rare:
        most = statement.bind(_MORE * (limit + offset))
        arguments = ", ".join(statement.bind(value) for value in (list(window.closed), *rare))
        statement.rare = f"penstock.rare_events({arguments}, {most}) AS events"
        statement.otherwise = partial(
            select_events,
            options,
            window=window,
            ceiling=ceiling,
            position=position,
            limit=limit,
            offset=offset,
            common_tags=common_tags,
            planned=True,
        )
    keys = SORTED_BY[options.order_by]
    if position is not None:
        _after(statement, keys, position)
    direction = " DESC" if options.descending else ""
    order = ", ".join(f"{key}{direction}" for key in keys)
    most = statement.bind(limit + offset)
    statement.first = statement.tail = f" ORDER BY {order} LIMIT {most}"
    if offset:
        skipped = f"{statement.bind(offset)}::bigint"
        statement.tail = f" ORDER BY {order} LIMIT {most}::bigint - {skipped} OFFSET {skipped}"
    return statement


def _by_id(position: Position | None, limit: int, *, descending: bool) -> Statement:
    """By the plan that the server keeps, which reads every partition whatever the catalogue said."""
    direction = " DESC" if descending else ""
    statement = Statement(tail=f" ORDER BY event_id{direction}, sequence{direction}")
    start: tuple[object, int] = _LAST if descending else _FIRST
    if position is not None:
        start = (position.key, position.sequence)
    arguments = ", ".join(statement.bind(value) for value in (*start, limit, descending))
    statement.source = f"penstock.events_by_id({arguments})"
    return statement


def select_event(event_id: UUID, window: Window) -> Statement:
    """The event with this id, where it was recorded within `window`."""
    # An id may come again after the dedupe window. "+ 0": over several partitions the planner would merge
    # their indexes of sequences for the order's sake, each read to its end.
    order = " ORDER BY sequence + 0 LIMIT 1"
    statement = Statement(first=order, tail=order)
    statement.where("event_id =", event_id)
    _within(statement, window, window.spans)
    return statement


def _within(statement: Statement, window: Window, spans: Sequence[Span]) -> None:
    statement.where("occurred_at >=", window.since)
    statement.where("occurred_at <", window.until)
    for span in spans:
        bounds = [("recorded_at >=", span.start), ("recorded_at <", span.end)]
        both = " AND ".join(f"{text} {statement.bind(at)}" for text, at in bounds if at is not None)
        statement.spans.append(both)


def _types_and_documents(statement: Statement, options: QueryOptions, common_tags: Collection[str]) -> None:
    if len(options.event_types) == 1:  # keeps (event_type, occurred_at) in the index's order; ANY does not
        statement.where("event_type =", options.event_types[0])
    elif options.event_types:
        statement.conditions.append(f"event_type = ANY({statement.bind(list(options.event_types))}::text[])")
    rare = rare_tags(options, common_tags)
    if rare:
        statement.where("metadata -> 'tags' @>", as_json(rare))
    if len(rare) < len(options.tags):  # the function behind @>: no index knows it
        common = as_json([tag for tag in options.tags if tag not in rare])
        statement.conditions.append(f"jsonb_contains(metadata -> 'tags', {statement.bind(common)})")
    if options.payload:
        statement.where("payload @>", as_json(options.payload))


def _after(statement: Statement, keys: tuple[str, ...], position: Position) -> None:
    values = (position.sequence,) if position.key is None else (position.key, position.sequence)
    sign = "<" if position.descending else ">"
    if len(keys) == 1:
        statement.where(f"sequence {sign}", position.sequence)
    else:
        row = ", ".join(statement.bind(value) for value in values)
        statement.conditions.append(f"({', '.join(keys)}) {sign} ({row})")
