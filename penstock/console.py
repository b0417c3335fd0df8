"""Where results are printed: stdout, as wide as a terminal is, or wide where nobody looks at a terminal."""

import os
import sys
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console

__all__ = ["fitting", "output"]

_WIDE = 160  # columns of a table that goes into a file or a pipe


def output() -> Console:
    """For tables. COLUMNS decides where it is set."""
    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if fixed else _WIDE)


def fitting(columns: Mapping[str, Sequence[str]], width: int, expendable: Sequence[str]) -> dict[str, int]:
    """The widths of the columns that fit, each with two cells of padding: `expendable` ones go first, in
    their order, so that the others, which say what a row is about, need not be cut.
    """
    widths = {name: max(map(cell_len, (name, *cells))) for name, cells in columns.items()}
    for name in expendable:
        if sum(widths.values()) + 2 * len(widths) <= width:
            break
        widths.pop(name, None)
    return widths
