"""The production engine in a process that can be stopped, killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from penstock_consumer.engine import Engine
from penstock_consumer.errors import PoisonFlood
from penstock_consumer.health import WorkerHealth
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.settings import BatchLimits, WorkerSettings
from simulation.audit import FEWEST, LIMIT, Audit
from simulation.broker import SESSION, Broker, SimSource
from simulation.database import Database
from simulation.records import TOPIC, SimDecoder, SimTrial, Writer
from simulation.services import SimLetters, SimRegistry, SimSink
from simulation.world import Killed, Process, SimClock, World

SETTINGS = WorkerSettings(
    bootstrap_servers="simulated",
    topics=(TOPIC,),
    group_id="g",
    batch=BatchLimits(records=LIMIT, fetch=4, linger=0.01, age=0.1),
    pause_after=0.2,
    drain=1.0,
    grace=2.0,
    fence_backoff=1.0,
    check_topics=3.0,
    accept_loss=frozenset({"*"}),
)


class Slot:
    """Where a worker runs, ends, and is started again."""

    def __init__(
        self, world: World, broker: Broker, database: Database, audit: Audit, writer: Writer
    ) -> None:
        self._world, self._broker, self._database = world, broker, database
        self._audit, self._writer = audit, writer
        self._lives = 0
        self.closing = False
        self.source: SimSource
        self.process = Process("", dead=True)
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, name: str) -> None:
        if not self.process.dead or self.closing:
            return
        self._lives += 1
        world = self._world
        process = self.process = Process(f"{name}.{self._lives}")
        share = 1.0 if world.calm else 0.5 if world.flood else world.share
        process.stops_floods = share < 1
        clock = SimClock(world)
        decoder = SimDecoder(self._writer.by_value, lambda: self._end(name))
        self.source = SimSource(world, self._broker, self._database, process)
        self.engine = Engine(
            source=self.source,
            sink=SimSink(world, self._database, process),
            dead_letters=SimLetters(world, process, self._audit),
            schemas=SimRegistry(world, process),
            decoder=decoder,
            careful=SimTrial(decoder),
            clock=clock,
            offload=self._offload,
            random=Random(world.random.random()),
            settings=replace(SETTINGS, start=world.start, conflicts=world.conflicts, dead_letter_share=share),
            metrics=_metrics(),
            health=WorkerHealth(clock.monotonic),
        )
        task = world.loop.create_task(self.engine.run())
        task.add_done_callback(lambda task: self._ended(task, process, name))
        self.tasks.append(task)

    async def _offload(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        process = self.process
        await self._world.pause(process, "offload")
        result = function(*args, **kwargs)
        await self._world.pause(process, "offloaded")
        return result

    def _ended(self, task: asyncio.Task[Any], process: Process, name: str) -> None:
        if process.dead:
            return
        process.dead = True
        self._world.note(process.name, "ended")
        error = None if task.cancelled() else task.exception()
        if isinstance(error, PoisonFlood) and process.stops_floods and self._writer.bad >= FEWEST:
            self._world.note("flood", process.name)
        elif task.cancelled() or error is not None:
            cause = "cancelled" if task.cancelled() else repr(task.exception())
            self._world.violate("engine", f"{process.name} ended: {cause}")
        self._world.loop.call_later(self._world.random.random(), self.start, name)

    def _end(self, name: str) -> None:
        """As a crash in the decoder does."""
        self._world.note("crash", self.process.name)
        self.kill(name)
        raise Killed

    def kill(self, name: str) -> None:
        if not self.process.dead:
            self.process.dead = True
            self._world.note("kill", self.process.name)
            self.tasks[-1].cancel()
            loop, random = self._world.loop, self._world.random
            loop.call_later(SESSION * random.random(), self._broker.left, self.source)
            loop.call_later(2 * random.random(), self.start, name)

    def stop(self) -> None:
        if not self.process.dead:
            self._world.note("SIGTERM", self.process.name)
            self.engine.stop()
            self.source.wake()


class _Unread:
    """A metric that nobody reads."""

    def labels(self, *values: str) -> _Unread:
        return self

    def inc(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...
    def observe(self, amount: float) -> None: ...
    def remove(self, *values: str) -> None: ...


@cache
def _metrics() -> WorkerMetrics:
    """The engine only writes to them: one object serves every run of the process."""
    metrics = WorkerMetrics(CollectorRegistry())
    for name in vars(metrics):
        setattr(metrics, name, _Unread())
    return metrics
