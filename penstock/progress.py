"""How far a command has come: a bar on a terminal, a line now and then elsewhere; always on stderr."""

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

__all__ = ["Watch"]

_LINE_EVERY_S: Final = 5.0


class Watch:
    """Call it with how much is done and how much there is. A context manager."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what = what
        self._console = Console(stderr=True, quiet=quiet)
        self._bar: Progress | None = None
        self._last = time.monotonic()

    def __call__(self, done: int, whole: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=max(whole, 1))
        elif time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            share = f"{100 * done / whole:.0f} %" if whole else "0 %"
            self._console.print(f"{self._what}: {share}", highlight=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn(self._what),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
