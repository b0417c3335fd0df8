"""Outlasting an absence of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from penstock_store.read_errors import StoreUnavailable

__all__ = ["FIRST_PAUSE", "longer", "patiently"]

FIRST_PAUSE: Final = 0.25  # seconds
_LONGEST_PAUSE: Final = 30.0  # seconds between attempts while the server is away
_log = structlog.get_logger(__name__)


def longer(pause: float) -> float:
    """The pause after this one, in seconds."""
    return min(2 * pause, _LONGEST_PAUSE)


async def patiently(
    work: Callable[[], Awaitable[Any]], committed: Callable[[], Awaitable[bool]] | None = None
) -> Any:
    """Try again while the server is away. `committed`: whether an attempt without an answer was done."""
    pause, doubt = FIRST_PAUSE, False
    while True:
        try:
            if doubt and committed is not None and await committed():
                return None
            return await work()
        except StoreUnavailable as error:
            _log.warning("waits_for_store", cause=str(error), retry_in_seconds=pause)
            doubt = True
        await asyncio.sleep(pause)
        pause = longer(pause)
