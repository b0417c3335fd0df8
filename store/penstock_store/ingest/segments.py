"""What the books say of a stretch of offsets: pure arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

__all__ = ["TO_READ", "IngestedRange", "Kind", "Segment", "divide", "reopenable"]


class Kind(StrEnum):
    """What is known of each offset of a segment."""

    INGESTED = "ingested"
    """Accounted for, and the store keeps what came of it."""
    EXPIRED = "expired"
    """Accounted for; retention has dropped what came of it."""
    SKIPPED = "skipped"
    """Given up as lost, or passed over at the start; the broker has it."""
    MISSING = "missing"
    """In no range, though the worker's position has passed it; the broker has it."""
    GONE = "gone"
    """Skipped or missing, and the broker has it no longer."""
    AHEAD = "ahead"
    """Not reached by the worker yet, which will read it."""


TO_READ: Final = frozenset({Kind.MISSING, Kind.SKIPPED})
"""What a replay reads."""


class IngestedRange(NamedTuple):
    """A row of `penstock.ingested`: offsets [first, next)."""

    first: int
    next: int
    expired: bool = False
    """Its events lay in a partition that was dropped."""
    lost: bool = False
    """It accounts for losses alone."""


class Segment(NamedTuple):
    """Offsets [first, next) of one kind."""

    first: int
    next: int
    kind: Kind

    @property
    def width(self) -> int:
        """Offsets, and at most as many records: compaction and transactions leave gaps."""
        return self.next - self.first


def divide(
    first: int, next_offset: int, ranges: Sequence[IngestedRange], *, position: int | None, low: int
) -> list[Segment]:
    """[first, next_offset) as neighbouring segments, ascending and of alternating kinds.

    `ranges` are disjoint and ascending; `position` is the worker's, None where it has none; `low` is the
    first offset that the broker has.
    """
    edge = first if position is None else position
    found: list[Segment] = []
    at = first
    for item in ranges:
        begin, end = max(item.first, first), min(item.next, next_offset)
        if begin >= end:
            continue
        found += _uncovered(at, begin, edge, low)
        found += _at_broker(begin, end, low) if item.lost else [Segment(begin, end, _kept(item))]
        at = end
    found += _uncovered(at, next_offset, edge, low)
    return list(_joined(found))


def reopenable(
    ranges: Sequence[IngestedRange], first: int, next_offset: int, low: int
) -> list[IngestedRange]:
    """Expired ranges that can be read again as a whole: within [first, next_offset), and the broker has them.

    Never a part of one: how the outcomes were spread within a range is not known.
    """
    return [
        item for item in ranges if item.expired and max(first, low) <= item.first and item.next <= next_offset
    ]


def _kept(item: IngestedRange) -> Kind:
    return Kind.EXPIRED if item.expired else Kind.INGESTED


def _uncovered(first: int, end: int, edge: int, low: int) -> Iterator[Segment]:
    passed = min(end, max(first, edge))
    yield from _at_broker(first, passed, low, Kind.MISSING)
    if passed < end:
        yield Segment(passed, end, Kind.AHEAD)


def _at_broker(first: int, end: int, low: int, kind: Kind = Kind.SKIPPED) -> Iterator[Segment]:
    there = min(end, max(first, low))
    if first < there:
        yield Segment(first, there, Kind.GONE)
    if there < end:
        yield Segment(there, end, kind)


def _joined(segments: Sequence[Segment]) -> Iterator[Segment]:
    last: Segment | None = None
    for segment in segments:
        if last is not None and last.kind is segment.kind:
            last = Segment(last.first, segment.next, segment.kind)
            continue
        if last is not None:
            yield last
        last = segment
    if last is not None:
        yield last
