"""Dividing a stretch of offsets by the books: every offset has one kind, and it is the right one."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock_store.ingest.segments import IngestedRange, Kind, Segment, divide, reopenable

END = 40
_bounds = st.tuples(st.integers(0, END), st.integers(0, END)).map(sorted)


@st.composite
def _ranges(draw: st.DrawFn) -> list[IngestedRange]:
    edges = sorted(draw(st.sets(st.integers(0, END), max_size=12)))
    pairs = list(itertools.pairwise(edges))
    kept = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    kinds = [
        (False, False),
        (True, False),
        (False, True),
    ]
    return [IngestedRange(first, end, *draw(st.sampled_from(kinds))) for first, end in sorted(kept)]


def _kind(offset: int, ranges: list[IngestedRange], position: int | None, low: int) -> Kind:
    held = next((item for item in ranges if item.first <= offset < item.next), None)
    if held is not None and not held.lost:
        return Kind.EXPIRED if held.expired else Kind.INGESTED
    if held is None and (position is None or offset >= position):
        return Kind.AHEAD
    if offset < low:
        return Kind.GONE
    return Kind.MISSING if held is None else Kind.SKIPPED


@given(_bounds, _ranges(), st.none() | st.integers(0, END), st.integers(0, END))
def test_every_offset_has_the_kind_that_its_own_look_up_gives(
    bounds: list[int], ranges: list[IngestedRange], position: int | None, low: int
) -> None:
    first, end = bounds
    segments = divide(first, end, ranges, position=position, low=low)
    told = [(offset, segment.kind) for segment in segments for offset in range(segment.first, segment.next)]
    assert told == [(offset, _kind(offset, ranges, position, low)) for offset in range(first, end)]
    assert all(segment.width > 0 for segment in segments)
    assert all(a.kind is not b.kind for a, b in itertools.pairwise(segments))


@given(_bounds, _ranges(), st.integers(0, END))
def test_ranges_are_reopened_as_a_whole_or_not_at_all(
    bounds: list[int], ranges: list[IngestedRange], low: int
) -> None:
    first, end = bounds
    for item in reopenable(ranges, first, end, low):
        assert item.expired
        offsets = range(item.first, item.next)
        assert all(first <= offset < end and offset >= low for offset in offsets)
    left = [item for item in ranges if item.expired and item not in reopenable(ranges, first, end, low)]
    assert all(item.first < max(first, low) or item.next > end for item in left)


def test_an_example() -> None:
    ranges = [IngestedRange(0, 10), IngestedRange(20, 30, lost=True), IngestedRange(30, 35, expired=True)]
    assert divide(5, 50, ranges, position=40, low=12) == [
        Segment(5, 10, Kind.INGESTED),
        Segment(10, 12, Kind.GONE),
        Segment(12, 20, Kind.MISSING),
        Segment(20, 30, Kind.SKIPPED),
        Segment(30, 35, Kind.EXPIRED),
        Segment(35, 40, Kind.MISSING),
        Segment(40, 50, Kind.AHEAD),
    ]
