"""Workers that are killed, stopped, moved about."""

from __future__ import annotations

import asyncio
import signal
import time

from chaos.rig import Rig
from chaos.scenarios.scenario import Scenario
from chaos.victim import POINTS
from fixtures.workers import WorkerProcess

__all__ = ["SCENARIOS"]

_STOPPED_AT = ("mid_copy", "before_commit", "after_poll")
_MOST_WORKERS = 4


def _passings(rig: Rig, point: str) -> int:
    """How often a point is passed before; offsets are committed to Kafka only once a second."""
    return 0 if point == "before_offset_commit" else rig.chance.randrange(4)


async def _kill(rig: Rig, cycles: int) -> None:
    """Each killed worker is the restart of the one before it. What is measured holds the group's session
    timeout: until it passes, the dead member's partitions are nobody's.
    """
    async with rig.load():
        for number in range(cycles):
            point, began = POINTS[number % len(POINTS)], time.time()
            victim = rig.start(point=point, after=_passings(rig, point))
            await rig.until(lambda victim=victim: not victim.running, f"a worker to die at {point}")
            if victim.returncode != -signal.SIGKILL:
                rig.faults.append(f"a worker ended with {victim.returncode}: {victim.tail(800)}")
            if number:
                await rig.recovered(began)
            rig.notes[point] = rig.notes.get(point, 0) + 1
        began = time.time()
        rig.start()
        await rig.recovered(began)


async def _terminate(rig: Rig, cycles: int) -> None:
    async with rig.load():
        worker = rig.start()
        await rig.recovered(0)
        rig.recoveries.clear()
        for _ in range(cycles):
            await rig.end(worker)
            began = time.time()
            worker = rig.start()
            await rig.recovered(began)


async def _zombie(rig: Rig, cycles: int) -> None:
    """The takeover is measured from the moment in which the worker stopped, so it holds the session timeout
    and the heir's own start.
    """
    async with rig.load():
        for number in range(cycles):
            point = _STOPPED_AT[number % len(_STOPPED_AT)]
            zombie = rig.start(point=point, action="stop", after=_passings(rig, point))
            await rig.until(lambda zombie=zombie: _is_stopped(zombie), f"a worker to stop at {point}")
            began = time.time()
            heir = rig.start()
            await rig.recovered(began)
            zombie.signal(signal.SIGCONT)
            await rig.ready(zombie)  # it is a member again, with partitions of its own
            rig.notes[point] = rig.notes.get(point, 0) + 1
            await rig.end(*rig.chance.sample([zombie, heir], 2))
        rig.start()


def _is_stopped(worker: WorkerProcess) -> bool:
    assert worker.running, f"a worker ended with {worker.returncode}: {worker.tail()}"
    return worker.stopped


async def _storm(rig: Rig, cycles: int) -> None:
    """Joins, leaves and kills, often before the rebalance before is over."""
    async with rig.load():
        rig.start()
        for _ in range(cycles):
            stored = await rig.fetchval("SELECT count(*) FROM penstock.events")
            turn = rig.chance.choice(("join", "join", "leave", "kill"))
            if turn == "join" and len(rig.alive) < _MOST_WORKERS:
                rig.start()
            elif len(rig.alive) > 1:
                chosen = rig.chance.choice(rig.alive)
                await (rig.end(chosen) if turn == "leave" else asyncio.to_thread(chosen.kill))
            rig.notes[turn] = rig.notes.get(turn, 0) + 1
            if rig.chance.random() < 0.5:
                await rig.stored(stored + 1)


SCENARIOS = (
    Scenario(name="kill-worker", about=f"kill -9 at {', '.join(POINTS)} in turn", cycles=10, attack=_kill),
    Scenario(name="stop-worker", about="SIGTERM under load, and a restart", cycles=5, attack=_terminate),
    Scenario(
        name="zombie",
        about=f"SIGSTOP at {', '.join(_STOPPED_AT)} in turn, past the session timeout; takeover; SIGCONT",
        cycles=3,
        attack=_zombie,
    ),
    Scenario(
        name="rebalance-storm",
        about="up to four workers join, leave and are killed",
        cycles=16,
        attack=_storm,
    ),
)
