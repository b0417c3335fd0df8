"""What a person reads of a copy: progress while it runs, sentences afterwards."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from penstock.wording import counted
from penstock_store.moving import Comparison, CopyPlan, CopyProgress, CopyReport

__all__ = ["CopyDisplay", "comparison_lines", "copied_lines", "plan_lines"]

_LINE_EVERY_S = 5.0


class CopyDisplay:
    """A bar on a terminal, a line now and then elsewhere. Everything goes to `console` (stderr)."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = self._last = clock()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[said]}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("Copying", total=1.0, said="")

    def copied(self, progress: CopyProgress) -> None:
        """After each batch."""
        done = progress.stored + progress.duplicates
        rate = done / max(self._clock() - self._started, 1e-3)
        said = f"{counted(done, 'event')}, {rate:,.0f} events/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.done, said=said)
        else:
            self._line(f"{said}, {progress.done:.0%} of the source")

    def compared(self, events: int) -> None:
        """While both stores are read again."""
        said = f"{counted(events, 'event')} of both stores"
        if self._bar is not None:
            # no total: how much there is to read is not known, and the copy's 100 % is not this
            self._bar.update(self._task, description="Comparing", said=said)
            self._bar.tasks[self._task].total = None
        else:
            self._line(f"compared {said}")

    def _line(self, text: str) -> None:
        now = self._clock()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def plan_lines(plan: CopyPlan) -> Iterator[str]:
    """Of a dry run."""
    # of a large store the figure is PostgreSQL's estimate
    held = f"about {plan.target_events:,}" if plan.target_events else "nothing"
    yield (
        f"{counted(plan.to_copy, 'event')} would be copied of {plan.source_events:,} in the source;"
        f" the target holds {held}."
    )
    if plan.from_start_because_mixed:
        yield (
            "The target holds events that are not of the source: what it has already is known by its key,"
            " the rest gets sequences after its own."
        )
    elif not plan.keeps_sequences:
        yield "The sequences of the source are not kept: those of the target differ already."


def copied_lines(report: CopyReport) -> Iterator[str]:
    """Of a copy that came to its end."""
    rate = report.stored / report.seconds if report.seconds else 0
    yield f"{counted(report.stored, 'event')} copied in {report.seconds:.1f} s ({rate:,.0f} events/s)."
    if report.duplicates:
        yield f"{counted(report.duplicates, 'event')} were there already."
    if report.conflicts:
        yield (
            f"{counted(report.conflicts, 'event')} left out: the target holds their key or id for something"
            " else. --verify names them."
        )
    if lost := report.stored - report.sequences_kept:
        yield f"{counted(lost, 'event')} got a sequence of the target's own; the order is the source's."
    if later := report.stored - report.times_kept:
        yield f"{counted(later, 'event')} got a recorded_at of the target's own."


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Of a verification."""
    if found.equal:
        events = counted(found.source_events, "event")
        yield f"Verified: both hold the same {events}, checksum {found.source_checksum}."
        if not found.same_order:
            yield "Their order differs."
        elif not found.same_sequences:
            yield "Their order is the same, their sequences differ."
        return
    verdict = "Complete" if found.complete else "Not verified"
    yield (
        f"{verdict}: the source holds {found.source_events:,}, the target {found.target_events:,};"
        f" {found.missing:,} missing, {found.different:,} different,"
        f" {found.extra:,} that the source does not hold."
    )
    # the target's own events are no fault: their number says enough
    yield from (example for example in found.examples if not example.startswith("extra "))
    if found.missing:
        yield "Copy with --from-start to bring what is missing."
