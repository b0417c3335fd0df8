"""Carrying a retention plan out through the owner's SQL functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import structlog

from penstock_store import partitions
from penstock_store.driver import LINK_ERRORS
from penstock_store.errors import PartitionError

if TYPE_CHECKING:
    from penstock_store.partitions import Connection
    from penstock_store.retention import RetentionPlan

__all__ = ["RetentionReport", "run"]

_ATTEMPTS: Final = 5  # of one step that meets a lock
_FIRST_PAUSE: Final = 1.0  # seconds before the next attempt, doubled each time: 15 s in all
_STEP_TIMEOUT: Final = 600.0  # seconds; sealing scans a partition once

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionReport:
    """What `run` did. Steps that failed are in `failed` with the cause; the next run plans them again."""

    made: tuple[str, ...] = ()
    rolled: bool = False
    closed: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)  # partition: events that went with it
    failed: Mapping[str, str] = field(default_factory=dict)  # partition or step: why


async def run(
    plan: RetentionPlan,
    connection: Connection,
    *,
    attempts: int = _ATTEMPTS,
    step_timeout: float = _STEP_TIMEOUT,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> RetentionReport:
    """Carry the plan out on an asyncpg connection of role `penstock_retention`, outside of a transaction.

    A step that meets a lock gives up within seconds, so that writers do not queue behind it, and is tried
    again `attempts` times in all. What fails is reported, not raised; the server's own checks have the last
    word. A step that passes its deadline ends the connection, and with it the run.
    """
    return await _Run(plan, connection, attempts, step_timeout, sleep).carry_out()


class _Run:
    def __init__(
        self,
        plan: RetentionPlan,
        connection: Connection,
        attempts: int,
        step_timeout: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._connection = connection
        self._attempts = attempts
        self._step_timeout = step_timeout
        self._sleep = sleep
        self._failed: dict[str, str] = {}
        self._ended_in: str | None = None  # the step that the connection did not survive

    async def carry_out(self) -> RetentionReport:
        plan = self._plan
        known = {decision.partition for decision in plan.decisions}
        made = None
        if plan.missing or plan.roll:
            made = await self._step("make", partitions.ensure_ahead, plan.ahead)
        rolled = bool(plan.roll and await self._step("roll", partitions.make_current))
        closed = [name for name in plan.close if await self._step(name, partitions.close, name) is not None]
        dropped: dict[str, int] = {}
        for name in (decision.partition for decision in plan.drop):
            if name in self._failed:
                continue  # not sealed: what is dropped stays in the books
            events = await self._step(name, partitions.drop, name)
            if events is not None:
                dropped[name] = events
                _log.info("partition_dropped", partition=name, events=events)
        return RetentionReport(
            made=tuple(name for name in made or () if name not in known),
            rolled=rolled,
            closed=tuple(closed),
            dropped=dropped,
            failed=self._failed,
        )

    async def _step(
        self,
        name: str,
        work: Callable[Concatenate[Connection, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T | None:
        """The work's result; None where it failed, and then `_failed` says why."""
        if self._ended_in is not None:
            self._failed[name] = f"not tried: the connection had ended in the step {self._ended_in}"
            return None
        pause = _FIRST_PAUSE
        for attempt in range(1, self._attempts + 1):
            try:
                async with asyncio.timeout(self._step_timeout):
                    return await work(self._connection, *args, **kwargs)
            except PartitionError as error:
                self._failed[name] = str(error)
                if not error.retryable or attempt == self._attempts or self._connection.is_closed():
                    break
            except TimeoutError:
                self._connection.terminate()  # a polite cancel waits without a bound
                self._failed[name] = f"did not end within {self._step_timeout:g} s; its connection was ended"
                break
            except LINK_ERRORS as error:
                self._failed[name] = f"the connection was lost: {error}"
                break
            await self._sleep(pause)
            pause *= 2
            del self._failed[name]
        if self._connection.is_closed():
            self._ended_in = name
        _log.warning("retention_step_failed", step=name, cause=self._failed[name])
        return None
