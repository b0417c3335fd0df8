"""What a table keeps on a narrow terminal."""

from penstock.console import fitting


def test_what_is_expendable_goes_first_and_in_its_order() -> None:
    columns = {"record": ["events:0@17"], "time": ["2026-01-31"], "cause": ["truncated"]}
    assert fitting(columns, 80, ("time", "cause")) == {"record": 11, "time": 10, "cause": 9}
    assert fitting(columns, 26, ("time", "cause")) == {"record": 11, "cause": 9}
    assert fitting(columns, 5, ("time", "cause")) == {"record": 11}, "what names a row is kept whole"


def test_a_column_is_as_wide_as_what_a_terminal_shows() -> None:
    assert fitting({"a": ["日本"]}, 80, ()) == {"a": 4}
