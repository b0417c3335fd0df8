"""One run of `penstock store copy`: open both stores, plan or copy, compare; stop at a signal."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from penstock.moving.places import Place
from penstock_store.moving import (
    Comparison,
    CopyPlan,
    CopyProgress,
    CopyReport,
    compare_stores,
    copy_events,
    plan_copy,
)

__all__ = ["CopyChoices", "Outcome", "run_copy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyChoices:
    """What was asked for."""

    copy: bool = True
    dry_run: bool = False
    verify: bool = False
    batch_size: int
    from_start: bool = False
    skip_corrupted: bool = False
    skip_conflicts: bool = False


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of it, as far as it got."""

    plan: CopyPlan | None = None
    progress: CopyProgress | None = None  # of the last batch
    copied: CopyReport | None = None
    comparison: Comparison | None = None
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints, without the names of the stores."""
        parts = {"plan": self.plan, "copied": self.copied, "comparison": self.comparison}
        return {
            "interrupted": self.interrupted,
            **{name: part.as_json() if part is not None else None for name, part in parts.items()},
        }


def run_copy(
    source: Place,
    target: Place,
    choices: CopyChoices,
    *,
    on_progress: Callable[[CopyProgress], object],
    on_compared: Callable[[int], object],
) -> Outcome:
    """SIGTERM and Ctrl-C end it in good order: `interrupted`. Raises `StoreError`."""
    outcome = Outcome()

    def tell(progress: CopyProgress) -> None:
        outcome.progress = progress
        on_progress(progress)

    async def work() -> None:
        async with source.store() as old, target.store() as new:
            skip = choices.skip_corrupted
            if choices.dry_run:
                outcome.plan = await plan_copy(old, new, skip_corrupted=skip)
                return
            if choices.copy:
                outcome.copied = await copy_events(
                    old,
                    new,
                    batch_size=choices.batch_size,
                    from_start=choices.from_start,
                    skip_corrupted=skip,
                    skip_conflicts=choices.skip_conflicts,
                    on_progress=tell,
                )
            if choices.verify:
                copied = outcome.copied
                outcome.comparison = await compare_stores(
                    old,
                    new,
                    up_to=copied.position if copied is not None else None,
                    skip_corrupted=skip,
                    on_progress=on_compared,
                )

    outcome.interrupted = asyncio.run(_until_signalled(work()))
    return outcome


async def _until_signalled(work: Coroutine[Any, Any, None]) -> bool:
    """Whether a signal ended it."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        with suppress(asyncio.CancelledError):
            await task
        return signalled
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
