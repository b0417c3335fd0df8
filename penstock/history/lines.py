"""Events as lines of text: JSON for programs, a table for people."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import orjson
from rich.cells import cell_len, set_cell_size

from penstock_schemas import RecordedEvent

__all__ = ["JsonArray", "JsonLines", "LineWriter", "TableLines", "json_text", "printable"]

_FIELDS: Final = (
    *("sequence", "recorded_at", "occurred_at", "event_id", "event_type", "schema_version", "entity_id"),
    *("actor_type", "actor_id", "tenant_id", "correlation_id", "causation_id", "idempotency_key"),
    *("payload", "metadata"),
)


class LineWriter(Protocol):
    """Text to write before, for and after events. Each ends its own lines."""

    def begin(self, first: Sequence[RecordedEvent]) -> str:
        """What comes first; `first` are the events that follow, as far as they are known."""
        ...

    def line(self, event: RecordedEvent) -> str:
        """One event."""
        ...

    def end(self) -> str:
        """What comes last."""
        ...


def json_text(event: RecordedEvent) -> str:
    """One JSON object on one line: every field under its own name, times as ISO 8601 in UTC."""
    fields = {name: getattr(event, name) for name in _FIELDS}
    try:
        return _dumped(fields)
    except TypeError:  # whole numbers beyond 64 bits
        head = json.loads(_dumped({**fields, "payload": None, "metadata": None}))
        whole = {**head, "payload": event.payload, "metadata": event.metadata}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def _dumped(fields: dict[str, Any]) -> str:
    # str: the driver's UUID is a subclass, which orjson does not take for one
    return orjson.dumps(fields, default=str, option=orjson.OPT_UTC_Z).decode()


class JsonLines:
    """One object a line."""

    def begin(self, first: Sequence[RecordedEvent]) -> str:
        return ""

    def line(self, event: RecordedEvent) -> str:
        return json_text(event) + "\n"

    def end(self) -> str:
        return ""


class JsonArray:
    """One array, written as the events come."""

    def __init__(self) -> None:
        self._separator = "\n"

    def begin(self, first: Sequence[RecordedEvent]) -> str:
        return "["

    def line(self, event: RecordedEvent) -> str:
        separator, self._separator = self._separator, ",\n"
        return separator + json_text(event)

    def end(self) -> str:
        return "\n]\n"


_GAP: Final = "  "
_TIME: Final = "time (UTC)"
_CAPS: Final = {"type": 32, "entity": 36, "actor": 24, "correlation": 36}  # cells; longer texts are cut
_NARROWEST: Final = 6
_PAYLOAD: Final = 20  # cells that make a payload worth showing
# Events are data from elsewhere: what would move the cursor, colour the screen or turn the line round is
# spelt out.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CELLS: Final[dict[str, Callable[[RecordedEvent], str]]] = {
    "sequence": lambda event: str(event.sequence),
    _TIME: lambda event: f"{event.occurred_at:%Y-%m-%d %H:%M:%S}".rjust(19, "0"),
    "type": lambda event: event.event_type,
    "entity": lambda event: event.entity_id,
    "actor": lambda event: event.actor_id or "",
    "correlation": lambda event: event.correlation_id,
    "payload": lambda event: json.dumps(event.payload, ensure_ascii=False),
}


class TableLines:
    """Columns that fit `width` cells, chosen from the first events and then fixed, so that it can go on for
    ever.
    """

    def __init__(self, width: int, paint: Callable[[str, str], str] = lambda text, _style: text) -> None:
        """`paint(text, style)` colours a cell of the column, or of the header, that `style` names."""
        self._width = width
        self._paint = paint
        self._columns: dict[str, int] = {}

    def begin(self, first: Sequence[RecordedEvent]) -> str:
        if not first:
            return ""
        self._columns = _layout(first, self._width)
        return self._row(list(self._columns), header=True)

    def line(self, event: RecordedEvent) -> str:
        return self._row([printable(_CELLS[name](event)) for name in self._columns])

    def end(self) -> str:
        return ""

    def _row(self, cells: list[str], *, header: bool = False) -> str:
        painted = []
        for (name, width), text in zip(self._columns.items(), cells, strict=True):
            cell = text.rjust(width) if name == "sequence" else _fit(text, width)
            painted.append(self._paint(cell, "header" if header else name))
        return _GAP.join(painted).rstrip() + "\n"


def _layout(events: Sequence[RecordedEvent], width: int) -> dict[str, int]:
    def natural(name: str) -> int:
        widest = max((cell_len(printable(_CELLS[name](event))) for event in events), default=0)
        return min(_CAPS.get(name, 40), max(len(name), widest))

    columns = {name: natural(name) for name in ("sequence", _TIME, "type", "entity", "actor")}
    columns[_TIME] = 19
    flexible = [name for name in columns if name in _CAPS]
    while _taken(columns) > width and max(columns[name] for name in flexible) > _NARROWEST:
        columns[max(flexible, key=lambda name: columns[name])] -= 1
    if width - _taken(columns) >= natural("correlation") + _PAYLOAD + 2 * len(_GAP):
        columns["correlation"] = natural("correlation")
    if width - _taken(columns) >= _PAYLOAD + len(_GAP):
        columns["payload"] = width - _taken(columns) - len(_GAP)
    return columns


def _taken(columns: dict[str, int]) -> int:
    return sum(columns.values()) + len(_GAP) * (len(columns) - 1)


def _fit(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def printable(text: str) -> str:
    """What would move the cursor, colour the screen or turn the line round is spelt out."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
