"""The words for a stretch of a topic: each form means one thing, and what means nothing is said to where."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.replay.span import Edge, Point, Span, SpanError, parse_span

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = datetime(2026, 2, 14, tzinfo=UTC)
START, END = Point(Edge.START), Point(Edge.END)


def at(time: datetime) -> Point:
    return Point(Edge.TIME, at=time)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("start", Span(START, END)),
        ("end", Span(END, END)),
        (":end", Span(START, END)),
        ("100", Span(Point(Edge.OFFSET, 100), END)),
        ("100:", Span(Point(Edge.OFFSET, 100), END)),
        (":200", Span(START, Point(Edge.OFFSET, 200))),
        ("100:200", Span(Point(Edge.OFFSET, 100), Point(Edge.OFFSET, 200))),
        ("100:end", Span(Point(Edge.OFFSET, 100), END)),
        ("+3", Span(Point(Edge.START, 3), END)),
        ("-5", Span(Point(Edge.END, 5), END)),
        ("-5:-2", Span(Point(Edge.END, 5), Point(Edge.END, 2))),
        ("@-48h:-24h", Span(at(NOW - timedelta(hours=48)), at(NOW - timedelta(hours=24)))),
        ("@-1m:end", Span(at(NOW - timedelta(minutes=1)), END)),
        ("@:-1h", Span(START, at(NOW - timedelta(hours=1)))),
        ("@2026-02-14", Span(at(DAY), END)),
        ("@2026-02-14:", Span(at(DAY), END)),
        ("@2026-02-14:1h", Span(at(DAY), at(DAY + timedelta(hours=1)))),
        ("@2026-02-14:2026-02-15", Span(at(DAY), at(DAY + timedelta(days=1)))),
        ("@1622505600", Span(at(datetime.fromtimestamp(1622505600, UTC)), END)),
        ("@1622505600123:1m3ms", Span(
            at(datetime.fromtimestamp(1622505600.123, UTC)),
            at(datetime.fromtimestamp(1622505600.123, UTC) + timedelta(minutes=1, milliseconds=3)))),
        ("@2026-02-14T08:00:00Z:2026-02-14T10:00:00.5+01:00", Span(
            at(DAY + timedelta(hours=8)), at(DAY + timedelta(hours=9, milliseconds=500)))),
    ],
)  # fmt: skip
def test_each_form_means_what_rpk_says(text: str, span: Span) -> None:
    assert parse_span(text, NOW) == span


@pytest.mark.parametrize(
    ("text", "character", "why"),
    [
        ("", 1, "is no offset"),
        (":", 1, "neither a beginning nor an end"),
        ("100:2x0", 5, "'2x0' is no offset"),
        ("200:100", 5, "ends at 100"),
        ("100:100", 5, "not after 100"),
        ("1" * 30, 1, "larger than any offset"),
        ("@", 2, "no time follows"),
        ("@48h", 2, "did you mean @-48h"),
        ("@2030-01-01", 2, "lies in the future"),
        ("@yesterday", 2, "'yesterday' is no time"),
        ("@2026-02-30", 2, "is no time"),
        ("@2026-02-14T08:00:00", 2, "is no time"),
        ("@-24h:-48h", 7, "not after"),
        ("@-24h:1hr", 7, "'1hr' is no time"),
        ("@-24h:-1h:-1m", 10, "follows the second time"),
        ("@2026-02-14T08:00:00Zfoo", 22, "a colon should"),
        ("@99999999999999w", 2, "is no time"),
        ("\u0661\u0660", 1, "is no offset"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, character: int, why: str) -> None:
    with pytest.raises(SpanError, match=re.escape(why)) as error:
        parse_span(text, NOW)
    assert f"character {character}:" in str(error.value)


@given(st.text(alphabet="@:+-0123456789TZ.endstarmhwµ\u0661 ", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_span_or_a_span_error(text: str) -> None:
    try:
        span = parse_span(text, NOW)
    except SpanError as error:
        found = re.search(r", character (\d+): ", str(error))
        assert found is not None
        assert 1 <= int(found[1]) <= len(text) + 1
        return
    for point in span:
        assert (point.at is not None) == (point.edge is Edge.TIME)
        assert 0 <= point.offset < 1 << 63
    if span.first.at and span.next.at:
        assert span.first.at < span.next.at


_offsets = st.integers(0, (1 << 63) - 1)


@given(_offsets, _offsets)
def test_offsets_come_back(a: int, b: int) -> None:
    first, end = min(a, b), max(a, b)
    if first < end:
        assert parse_span(f"{first}:{end}", NOW) == Span(Point(Edge.OFFSET, first), Point(Edge.OFFSET, end))
    assert parse_span(f"+{a}", NOW).first == Point(Edge.START, a)
    assert parse_span(f"-{a}", NOW).first == Point(Edge.END, a)


@given(
    st.integers(1_000_000_000_000, 1_795_000_000_000).map(lambda ms: EPOCH + timedelta(milliseconds=ms)),
    st.integers(1, 10**9),
)
def test_one_time_in_each_spelling_is_one_time(time: datetime, milliseconds: int) -> None:
    stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    unix = (time - EPOCH) // timedelta(milliseconds=1)
    assert parse_span(f"@{stamp}", NOW) == parse_span(f"@{unix:013d}", NOW) == Span(at(time), END)
    ago = (NOW - time) // timedelta(milliseconds=1)
    assert parse_span(f"@-{ago}ms", NOW) == Span(at(time), END)
    assert parse_span(f"@{stamp}:{milliseconds}ms", NOW).next.at == time + timedelta(
        milliseconds=milliseconds
    )
