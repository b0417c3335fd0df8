"""What one seed decides: delays, faults, the trace; and what the parts of a simulation share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, Literal

from simulation.loop import SimLoop


class Killed(BaseException):
    """What every call of a killed process ends in: it cannot reach the world any more."""


@dataclass
class Process:
    """One life of a worker."""

    name: str
    dead: bool = False
    frozen_until: float = 0.0
    letters: set[tuple[str, int, int]] = field(default_factory=set)
    stops_floods: bool = False


@dataclass
class Rates:
    """How likely each fault is, each time it could happen. Many are 0 in any one seed: what always fails
    hides what fails rarely.
    """

    slow: float = 0.02
    database: float = 0.03
    commit_lost: float = 0.2
    claim_lost: float = 0.05
    skip: float = 0.3
    kafka: float = 0.03
    overtaken: float = 0.3
    """Records are written, and perhaps ingested by others, before the answer about a partition is used."""
    redeliver: float = 0.1
    straggler: float = 0.1
    misplaced: float = 0.01
    letters: float = 0.1
    letters_lost: float = 0.1
    registry: float = 0.2
    stubborn: float = 0.1
    """A cancelled call that lets go late."""

    @classmethod
    def draw(cls, random: Random) -> Rates:
        scale = random.choice((0.3, 1.0, 2.0, 4.0))
        return cls(**{
            each.name: 0.0 if random.random() < 0.4 else min(0.5, float(each.default) * scale)  # type: ignore[arg-type]
            for each in fields(cls)
        })  # fmt: skip


Start = Literal["earliest", "latest"]
Conflicts = Literal["dead_letter", "report"]


@dataclass
class World:
    """Owns the seed. Whatever varies is drawn from `random`, in the order in which it happens."""

    seed: int
    keep_trace: bool = False
    violations: list[str] = field(default_factory=list)
    calm: bool = False
    """No faults any more: from here on everything has to come right."""
    wall_offset: float = 0.0
    flood: bool = False
    """Almost every record is bad, and the worker is to stop rather than move them to the dead letters."""
    outages: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.rates = Rates.draw(self.random)
        self.loop = SimLoop(self.random, self.random.choice((0.0, 0.0, 0.1, 0.5)))
        self.pace = self.random.choice((0.01, 0.1, 0.5))
        self.start: Start = self.random.choice(("earliest", "earliest", "latest"))
        self.conflicts: Conflicts = self.random.choice(("dead_letter", "dead_letter", "report"))
        self.share = self.random.choice((1.0, 1.0, 1.0, 0.5))
        self.trace: list[str] = []

    def note(self, what: str, *details: Any) -> None:
        if self.keep_trace:
            self.trace.append(f"{self.loop.time():.6f} {what} {' '.join(map(str, details))}")

    def violate(self, invariant: str, detail: str) -> None:
        """The first one counts; what follows is its consequence."""
        self.note("VIOLATION", invariant, detail)
        self.violations.append(f"{invariant}: {detail}")

    def hit(self, fault: str) -> bool:
        rate: float = getattr(self.rates, fault)
        return not self.calm and rate > 0 and self.random.random() < rate

    def down(self, what: str) -> bool:
        return what in self.outages

    async def pause(self, process: Process, what: str) -> None:
        """Every call to the outside passes here, at least twice: on its way and with its answer."""
        if process.dead:
            raise Killed
        if self.keep_trace:
            self.note(process.name, what)
        kind = self.random.random()
        if self.hit("slow"):
            await asyncio.sleep(3 * self.random.random())
        elif kind > 0.5:
            await asyncio.sleep(2 * self.pace * (kind - 0.5) ** 2)
        elif kind > 0.2:
            await asyncio.sleep(0)
        while process.frozen_until > self.loop.time() and not process.dead:  # noqa: ASYNC110
            await asyncio.sleep(process.frozen_until - self.loop.time())
        if process.dead:
            raise Killed


@dataclass
class SimClock:
    world: World

    def monotonic(self) -> float:
        return self.world.loop.time()

    def time(self) -> float:
        return 1_700_000_000.0 + self.world.loop.time() + self.world.wall_offset

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
