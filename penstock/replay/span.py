"""The words for a stretch of a topic, as `rpk topic consume --offset` takes them. Pure.

    start  end  100  +10  -10      from there until the present end
    100:200  100:end  :200  :end   until there, exclusive; a missing side is the start or the end
    @T  @T1:T2  @:T2               by the records' timestamps

T is a day, an RFC 3339 time, Unix seconds (9 or 10 digits) or milliseconds (13), or a duration such as -48h.
A duration counts from now; as T2 after a point in time it counts from that.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

__all__ = ["EXAMPLES", "Edge", "Point", "Span", "SpanError", "parse_span"]

EXAMPLES: Final = "start, 100:200, -1000, @-48h:-24h, @2026-02-14:1h, @2026-02-14T08:00:00Z:end"
_LARGEST: Final = (1 << 63) - 1
_OFFSET: Final = re.compile(r"([+-]?)(\d+)", re.ASCII)
_DURATION: Final = re.compile(r"(-?)((?:\d+(?:\.\d+)?(?:ms|[smhdw]))+)", re.ASCII)
_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_UNITS: Final = {
    "ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks",
}  # fmt: skip
# A time holds colons itself: the first side is recognised before the colon between the sides is looked for.
_TIME: Final = re.compile(
    r"(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))"
    r"|(?P<plain>[^:]*)",
    re.ASCII,
)
_FRACTION: Final = re.compile(r"(\.\d{6})\d+")


class SpanError(ValueError):
    """What was written is no stretch of a topic. Its text says which part, where, and what would be."""


class Edge(StrEnum):
    """What a point is counted from."""

    START = "start"
    END = "end"
    OFFSET = "offset"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Point:
    """`offset` is a distance from START (upwards) or END (downwards), or the OFFSET itself."""

    edge: Edge
    offset: int = 0
    at: datetime | None = None


class Span(NamedTuple):
    """From a point until before another."""

    first: Point
    next: Point


START: Final = Point(Edge.START)
END: Final = Point(Edge.END)


def parse_span(text: str, now: datetime) -> Span:
    """What `text` says at `now` (aware). Raises `SpanError`."""
    if text.startswith("@"):
        return _times(text, now)
    first, colon, last = text.partition(":")
    if not colon:
        return Span(_offset(text, 0, text), END)
    if not first and not last:
        raise _error(text, 0, "it names neither a beginning nor an end")
    span = Span(
        _offset(text, 0, first) if first else START, _offset(text, len(first) + 1, last) if last else END
    )
    if span.first.edge is span.next.edge is Edge.OFFSET and span.next.offset <= span.first.offset:
        raise _error(text, len(first) + 1, f"it ends at {last}, not after {first} where it begins")
    return span


def _offset(text: str, at: int, side: str) -> Point:
    if side == "start":
        return START
    if side == "end":
        return END
    found = _OFFSET.fullmatch(side)
    if found is None:
        raise _error(text, at, f"{side!r} is no offset: write start, end, 100, +100 or -100")
    number = int(found[2])
    if number > _LARGEST:
        raise _error(text, at, f"{side} is larger than any offset")
    edge = {"": Edge.OFFSET, "+": Edge.START, "-": Edge.END}[found[1]]
    return Point(edge, number)


def _times(text: str, now: datetime) -> Span:
    end_of_first = _side(text, 1)
    first = text[1:end_of_first]
    if end_of_first < len(text) and text[end_of_first] != ":":
        raise _error(text, end_of_first, f"{text[end_of_first:]!r} follows a time; a colon should")
    last = text[end_of_first + 1 :]
    if not first and not last:
        raise _error(text, 1, "no time follows the @")
    begin, absolute = _time(text, 1, first, now) if first else (None, False)
    if begin is not None and begin > now:
        advice = f"; did you mean @-{text[1:]}?" if _DURATION.fullmatch(first) else ""
        raise _error(text, 1, f"{first} lies in the future, where nothing is to be replayed{advice}")
    if not last or last == "end":
        return Span(START if begin is None else Point(Edge.TIME, at=begin), END)
    if _side(text, end_of_first + 1) != len(text):
        raise _error(text, _side(text, end_of_first + 1), "something follows the second time")
    end, _ = _time(text, end_of_first + 1, last, begin if absolute and begin is not None else now)
    if begin is not None and end <= begin:
        raise _error(
            text, end_of_first + 1, f"it ends at {_said(end)}, not after {_said(begin)} where it begins"
        )
    return Span(START if begin is None else Point(Edge.TIME, at=begin), Point(Edge.TIME, at=end))


def _side(text: str, at: int) -> int:
    """Where the side that begins at `at` ends."""
    found = _TIME.match(text, at)
    return at if found is None else found.end()


def _time(text: str, at: int, side: str, base: datetime) -> tuple[datetime, bool]:
    """The time, and whether it stands for itself rather than being counted from `base`."""
    try:
        if duration := _DURATION.fullmatch(side):
            sign = -1 if duration[1] else 1
            pieces = (timedelta(**{_UNITS[unit]: float(n)}) for n, unit in _PIECE.findall(duration[2]))
            return base + sign * sum(pieces, timedelta()), False
        if side.isascii() and side.isdigit() and len(side) in (9, 10, 13):
            milliseconds = int(side) if len(side) == 13 else int(side) * 1000
            return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds), True
        stamp = datetime.fromisoformat(_FRACTION.sub(r"\1", side))
    except (ValueError, OverflowError):
        stamp = None
    if stamp is None or (stamp.tzinfo is None and len(side) != len("2026-02-14")):
        raise _error(
            text,
            at,
            f"{side!r} is no time: write a duration (-48h, 90m), a day (2026-02-14), a time with its zone "
            "(2026-02-14T08:00:00Z), or Unix seconds or milliseconds",
        )
    return (stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)), True


def _said(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(text: str, at: int, why: str) -> SpanError:
    return SpanError(f"{text!r}, character {at + 1}: {why}. For example: {EXAMPLES}")
