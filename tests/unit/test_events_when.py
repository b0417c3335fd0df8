"""Times on the command line."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.history.when import parse_when

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1.5d", timedelta(hours=36)),
        (" 2w ", timedelta(days=14)),
    ],
)
def test_a_duration_is_that_long_ago(text: str, ago: timedelta) -> None:
    assert parse_when(text, _NOW) == _NOW - ago


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31 10:00:00.25Z", datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, at: datetime) -> None:
    assert parse_when(text, _NOW) == at


@pytest.mark.parametrize(
    "text", ["", "5x", "h1", "1h ago", "-1h", "31.01.2026", "999999w", "٣h", "1e9h", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_answered_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time\. Write a time ago, such as 90s"):
        parse_when(text, _NOW)


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_when(text, _NOW).utcoffset() == timedelta(0)
