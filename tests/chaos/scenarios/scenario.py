"""A scenario, and what is checked after each of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from chaos.result import Result
from chaos.rig import Rig, Site, rigged

__all__ = ["Scenario"]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`attack` does `cycles` of it. `disk`: MiB of the small disk that PostgreSQL's data lies on, or 0.

    `files`: it attacks the file backend in `site.disk` and nothing else.
    """

    name: str
    about: str
    cycles: int
    attack: Callable[[Rig, int], Awaitable[None]] | None = None
    files: Callable[[Site, Result], Awaitable[None]] | None = None
    disk: int = 0

    async def run(self, site: Site, cycles: int | None = None) -> Result:
        """Attack, then look: everything accounted for and equal, a fresh event passes, workers end well."""
        result, began = Result(scenario=self.name, cycles=cycles or self.cycles), time.monotonic()
        if self.files:
            await self.files(site, result)
        if self.attack:
            async with rigged(site) as rig:
                await self._attack(rig, result)
        result.faults = [*result.findings.faults(), *result.faults]
        result.seconds = time.monotonic() - began
        return result

    async def _attack(self, rig: Rig, result: Result) -> None:
        assert self.attack
        try:
            await self.attack(rig, result.cycles)
            if not rig.alive:
                rig.start()
            await rig.settle()
            await rig.emit(1)  # a fresh event passes
            await rig.settle()
            await rig.reconcile()
            await rig.end(*rig.alive)
        except Exception as error:  # whatever it is, the other scenarios have still to be run
            why = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            ends = "".join(f"\n  {worker.log.name}: {worker.tail(1500)}" for worker in rig.workers[-2:])
            result.faults.append(f"{why}; the last workers' logs end with{ends}")
        result.recoveries, result.notes = rig.recoveries, rig.notes
        result.faults += rig.faults
        try:
            result.findings = await rig.audit()
        except (AssertionError, TimeoutError, asyncpg.PostgresError) as error:
            result.faults.append(f"no audit: {error}")
