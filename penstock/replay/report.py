"""What a person sees of a replay: a progress bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from penstock.wording import counted

__all__ = ["ReplayReport"]

_LINE_EVERY_S = 5.0


class ReplayReport:
    """Writes to `console` (stderr). `total`: offsets to be read."""

    def __init__(self, console: Console, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._total = total
        self._clock = clock
        self._started = self._last = clock()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("Replaying"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[records]} records"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, records="0", rate="")

    def began(self, run: int) -> None:
        """The run has its number."""
        self._started = self._last = self._clock()
        self._say(f"Replay {run}: {counted(self._total, 'offset')} to read.")

    def progress(self, offsets: int, records: int) -> None:
        """So much is accounted for, in all."""
        now = self._clock()
        rate = f"{records / max(now - self._started, 1e-3):,.0f} records/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=offsets, records=f"{records:,}", rate=rate)
        elif now - self._last >= _LINE_EVERY_S:
            self._last = now
            share = 100 * offsets // max(1, self._total)
            self._say(f"{share} %, {counted(records, 'record')} accounted for, {rate}")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
