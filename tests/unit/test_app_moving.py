"""What a person sees of a copy."""

from __future__ import annotations

import io

from rich.console import Console

from penstock.moving.words import CopyDisplay, comparison_lines, plan_lines
from penstock_store.moving import Comparison, CopyPlan, CopyProgress


def _shown(*, terminal: bool) -> tuple[str, str]:
    """While copying, and while comparing."""
    out, now = io.StringIO(), [0.0]
    console = Console(file=out, force_terminal=terminal, width=100, legacy_windows=False)
    with CopyDisplay(console, clock=lambda: now[0]) as display:
        now[0] = 6.0
        display.copied(CopyProgress(stored=10, duplicates=0, position=10, start=0, end=10))
        if display._bar is not None:
            display._bar.refresh()
        copying = out.getvalue()
        now[0] = 12.0
        display.compared(5_000)
        if display._bar is not None:
            display._bar.refresh()
        return copying, out.getvalue().removeprefix(copying)


def test_a_terminal_gets_a_bar_whose_end_is_the_end_of_what_it_counts() -> None:
    copying, comparing = _shown(terminal=True)
    assert "Copying" in copying
    assert "100%" in copying
    assert "Comparing" in comparing
    assert "%" not in comparing


def test_elsewhere_plain_lines_say_it() -> None:
    copying, comparing = _shown(terminal=False)
    assert copying == "10 events, 2 events/s, 100% of the source\n"
    assert comparing == "compared 5,000 events of both stores\n"


def test_an_estimate_is_called_one() -> None:
    plan = CopyPlan(
        source_events=10,
        to_copy=4,
        target_events=2_323,
        after_sequence=6,
        keeps_sequences=True,
        from_start_because_mixed=False,
    )
    assert list(plan_lines(plan)) == [
        "4 events would be copied of 10 in the source; the target holds about 2,323."
    ]


def test_the_target_s_own_events_are_a_number_and_no_list() -> None:
    found = Comparison(
        source_events=2,
        target_events=3,
        source_checksum="a",
        target_checksum="b",
        same_sequences=False,
        same_order=False,
        same_recorded_at=False,
        missing=1,
        extra=2,
        different=0,
        examples=("missing x", "extra y", "extra z"),
    )
    said = list(comparison_lines(found))
    assert "2 that the source does not hold." in said[0]
    assert said[1:] == ["missing x", "Copy with --from-start to bring what is missing."]
