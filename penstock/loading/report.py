"""What a person sees of a load: a progress bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from penstock.loading.summary import SHOWN_BAD_LINES, BadLine, LoadSummary
from penstock.wording import counted

__all__ = ["LoadReport"]

_LINE_EVERY_S = 5.0


class LoadReport:
    """A `LoadWatcher` that writes to `console` (stderr) and bad lines to `rejects`.

    `position` and `size` measure the file in bytes; None where it is a pipe. Everything printed is bounded:
    the first bad lines by number and reason, the others as a count.
    """

    def __init__(
        self,
        console: Console,
        *,
        position: Callable[[], int | None],
        size: int | None,
        rejects: BinaryIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._position = position
        self._size = size
        self._rejects = rejects
        self._clock = clock
        self._started = self._last = clock()
        self._printed = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = _bar(console)
            self._task = self._bar.add_task("", total=size, rate="", events="0")

    def progress(self, summary: LoadSummary) -> None:
        now = self._clock()
        done = summary.emitted + summary.failed
        rate = done / max(now - self._started, 1e-3)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._position() or 0, events=f"{done:,}", rate=f"{rate:,.0f} events/s"
            )
        elif now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._console.print(
                f"{counted(summary.lines, 'line')} read, {counted(done, 'event')} answered for, "
                f"{summary.bad:,} bad, {rate:,.0f} events/s",
                highlight=False,
                soft_wrap=True,
            )

    def bad_line(self, line: BadLine, data: bytes) -> None:
        self._print(line, "bad line")
        if data:
            self.reject(data + b"\n")

    def failed_line(self, line: BadLine) -> None:
        self._print(line, "not delivered: line")

    def reject(self, data: bytes) -> None:
        """Write bytes of a bad line to the file of rejects."""
        if self._rejects is not None:
            self._rejects.write(data)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _print(self, line: BadLine, what: str) -> None:
        self._printed += 1
        if self._printed <= SHOWN_BAD_LINES:
            self._console.print(
                f"{what} {line.number:,}: {line.reason}", highlight=False, markup=False, soft_wrap=True
            )
        elif self._printed == SHOWN_BAD_LINES + 1:
            self._console.print("more of them are counted, not shown", highlight=False)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("Loading"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]} events"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
