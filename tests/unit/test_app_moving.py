"""What a person sees of a copy."""

from __future__ import annotations

import io

from rich.console import Console

from penstock.moving.words import CopyDisplay
from penstock_store.moving import CopyProgress


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
