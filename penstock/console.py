"""Where results are printed: stdout, as wide as a terminal is, or wide where nobody looks at a terminal."""

import os
import sys

from rich.console import Console

__all__ = ["output"]

_WIDE = 160  # columns of a table that goes into a file or a pipe


def output() -> Console:
    """For tables. COLUMNS decides where it is set."""
    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if fixed else _WIDE)
