"""How a run ends that was asked to stop: by itself, or in bounded time all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from penstock_consumer.engine import Engine

__all__ = ["in_time", "run_until"]

# Seconds for each cancellation of a stop that is late: it ends the step under way, the next one tidies up.
_TIDYING = (3.0, 1.0, 1.0, 1.0)

log = structlog.get_logger(__name__)


async def in_time(work: Coroutine[Any, Any, None], stop: asyncio.Event, grace: float) -> None:
    """Run `work`, which ends by itself once `stop` is set: cancelled where that takes longer than `grace`
    seconds, and left behind where even that does not help.
    """
    working = asyncio.create_task(work, name="worker")
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace)
        if not working.done():
            log.warning("stopped_late", seconds=grace, advice="what was not committed is read again")
    finally:
        stopped.cancel()
        for seconds in _TIDYING:
            if not working.done():
                working.cancel()
                await asyncio.wait({working}, timeout=seconds)
    if working.done() and not working.cancelled():
        working.result()


async def run_until(engine: Engine, stop: asyncio.Event) -> None:
    """Run the engine, and ask it to stop once `stop` is set."""

    async def watch() -> None:
        await stop.wait()
        engine.stop()

    watcher = asyncio.create_task(watch())
    try:
        await engine.run()
    finally:
        watcher.cancel()
