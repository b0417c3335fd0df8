"""One simulation: workers and what befalls them, from one seed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from unittest.mock import patch

import structlog

from penstock_consumer import assignment, breaker, claiming, engine, rejections
from penstock_consumer.interfaces import TopicPartition
from simulation.audit import FEWEST, Audit
from simulation.broker import SESSION, Broker
from simulation.database import Database, Saved
from simulation.loop import Stuck
from simulation.records import Writer
from simulation.workers import Slot
from simulation.world import World

RECOVERY = 90.0  # virtual seconds in which everything has to be accounted for once faults stop
STEPS = 60_000


@dataclass(frozen=True)
class Report:
    seed: int
    violations: tuple[str, ...]
    records: int
    trace: tuple[str, ...]
    """Empty where it was not to be kept."""

    @property
    def digest(self) -> str:
        """Of everything that happened: the same seed has the same."""
        return blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()


class Simulation:
    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        world = self.world = World(seed, keep_trace)
        random = world.random
        self.broker = Broker(world, random.randint(1, 4))
        self.writer = Writer(random)
        world.flood = self.writer.flood
        self.audit = Audit(world, self.broker.logs, self.broker.every)
        self.database = Database(world, self.audit)
        self.slots = [
            Slot(world, self.broker, self.database, self.audit, self.writer)
            for _ in range(random.choice((1, 2, 2, 3)))
        ]
        self.broker.produce = self._produce
        most = random.choice((0, 15, 15))  # a group often comes before the first record
        for log in self.broker.logs.values():
            self.writer.append(log, random.randint(0, most))
        self._horizon = random.choice((3.0, 8.0, 20.0))  # shorter, and no commit comes before the calm
        self._lags = 0
        """Replicas that are to take over."""

    def run(self) -> Report:
        world = self.world
        with _quiet(world), world.loop.current():
            try:
                self._plan()
                self._play()
            except Stuck as stuck:
                world.violate("liveness", str(stuck))
            self._clean_up()
        records = sum(len(log.records) for log in self.broker.logs.values())
        return Report(world.seed, tuple(world.violations), records, tuple(world.trace))

    def _plan(self) -> None:
        """What befalls whom, and when."""
        random, loop = self.world.random, self.world.loop
        for number, slot in enumerate(self.slots):
            loop.call_later(random.random() * 0.3, slot.start, f"w{number}")
        for _ in range(random.randint(3, 16)):
            loop.call_later(self._horizon * random.random(), self._produce)
        kinds = [self._kill, self._stop, self._evict, self._freeze, self._move, self._jump, self._outage]
        kinds += [self._expire, self._damage, self._recreate, self._fail_over, self._grow, self._strand]
        kinds = random.sample(kinds, random.randint(1, len(kinds)))
        for _ in range(random.choice((0, 3, 8, 16))):
            loop.call_later(self._horizon * random.random(), random.choice(kinds))
        loop.call_later(self._horizon, self._calm)

    def _play(self) -> None:
        world, loop = self.world, self.world.loop
        if not self._ingest(self._horizon + RECOVERY):
            return
        for log in self.broker.logs.values():
            log.led = True
        if not self._ingest(RECOVERY):
            return
        for slot in self.slots:
            slot.closing = True
            slot.stop()
        limit = loop.time() + 20
        loop.run(lambda: loop.time() > limit or all(slot.process.dead for slot in self.slots), steps=STEPS)
        if not all(slot.process.dead for slot in self.slots):
            world.violate("liveness", "a worker does not end after SIGTERM")
        self.audit.finish(self.database)

    def _ingest(self, seconds: float) -> bool:
        """Whether all is well once everything that has a leader is accounted for."""
        world, loop = self.world, self.world.loop
        limit = loop.time() + seconds
        loop.run(
            lambda: (
                bool(world.violations)
                or (world.calm and not self._lags and self.audit.done(self.database))
                or loop.time() > limit
            ),
            steps=STEPS,
        )
        if not world.violations and not self.audit.done(self.database):
            left = {
                w.partition: (self.database.position(w, log.topic_id), log.ended)
                for w, log in self.broker.logs.items()
            }
            world.violate("liveness", f"not accounted for: {left}")
        return not world.violations

    def _clean_up(self) -> None:
        """Let every coroutine come to its end; nothing that happens here counts."""
        loop = self.world.loop
        for slot in self.slots:
            slot.process.dead = slot.closing = True
        for _ in range(20):
            tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            end = loop.steps + 200
            try:
                loop.run(lambda: loop.steps >= end, steps=1000)  # noqa: B023
            except Stuck:
                continue

    # ── what may happen ────────────────────────────────────────────────────────────────────────────────────

    def _produce(self, where: TopicPartition | None = None) -> None:
        random = self.world.random
        self.writer.append(
            self.broker.logs[where or random.choice(list(self.broker.logs))], random.randint(1, 10)
        )
        for member in self.broker.members:
            member.wake()

    def _any(self) -> tuple[Slot, str]:
        number = self.world.random.randrange(len(self.slots))
        return self.slots[number], f"w{number}"

    def _kill(self) -> None:
        slot, name = self._any()
        slot.kill(name)

    def _stop(self) -> None:
        self._any()[0].stop()

    def _evict(self) -> None:
        if self.broker.members:
            self.broker.evict(self.world.random.choice(self.broker.members))

    def _freeze(self) -> None:
        slot, _ = self._any()
        until = slot.process.frozen_until = self.world.loop.time() + 5 * self.world.random.random()
        self.world.note("freeze", slot.process.name, until)
        if self.world.random.random() < 0.5 and not slot.process.dead:
            self.world.loop.call_later(SESSION * self.world.random.random(), self.broker.evict, slot.source)

    def _move(self) -> None:
        self.broker.rebalance(self.world.random.random())

    def _jump(self) -> None:
        random = self.world.random
        self.world.wall_offset += random.choice((-3600.0, -1.0, 1.0, 86400.0))
        if random.random() < 0.5:
            self.world.loop.jump(3 * random.random())
        self.world.note("clock", self.world.wall_offset)

    def _expire(self) -> None:
        """The topic's retention takes what may not be ingested yet."""
        random = self.world.random
        for log in self.broker.logs.values():
            self.writer.append(log, random.randint(0, 12))
        log = random.choice(list(self.broker.logs.values()))
        log.low = max(log.low, log.ended - random.randint(0, 8))
        self.world.note("expire", log.where.partition, log.low)

    def _damage(self) -> None:
        """A record that cannot be read, until everything calms down."""
        log = self.world.random.choice(list(self.broker.logs.values()))
        self.writer.append(log, 4)
        log.damaged = self.world.random.randrange(max(log.low, log.ended - 8), log.ended)
        self.world.note("damage", log.where.partition, log.damaged)

    def _recreate(self) -> None:
        """The topic is deleted and made again, as one should: when no worker runs."""
        for number, slot in enumerate(self.slots):
            slot.kill(f"w{number}")
        self.broker.make_topic(len(self.broker.logs))
        self.world.note("recreate", self.broker.topic_id)
        for log in self.broker.logs.values():
            self.writer.append(log, self.world.random.randint(0, 12))

    def _grow(self) -> None:
        """The topic gets one more partition, and records before the group finds it."""
        log, random = self.broker.make_log(len(self.broker.logs)), self.world.random
        self.writer.append(log, random.randint(0, 12))
        self.world.note("grow", log.where.partition)
        self.world.loop.call_later(2 * random.random(), self.broker.find, log.where)

    def _strand(self) -> None:
        """A partition has no leader, for a while or until all others are accounted for."""
        log = self.world.random.choice(list(self.broker.logs.values()))
        log.led = False
        self.world.note("leaderless", log.where.partition)
        if self.world.random.random() < 0.5:
            self.world.loop.call_later(4 * self.world.random.random(), setattr, log, "led", True)

    def _fail_over(self) -> None:
        """The database is lost, and a replica goes on that lacks the last of its commits."""
        random, loop = self.world.random, self.world.loop
        self._lags += 1
        lag = random.random()  # also when all is calm: most is committed then
        loop.call_later(
            4 * random.random(), lambda: loop.call_later(lag, self._promote, self.database.save())
        )

    def _promote(self, saved: Saved) -> None:
        self._lags -= 1
        self.world.note("failover", len(self.database.keys) - len(saved.keys))
        self.database.go_back(saved)
        for where in self.broker.logs:  # a worker learns of it with its next batch
            self._produce(where)

    def _outage(self) -> None:
        what = self.world.random.choice(("database", "letters", "registry"))
        self.world.note("outage", what)
        self.world.outages.add(what)
        seconds = 4 * self.world.random.random()
        self.world.loop.call_later(seconds, self.world.outages.discard, what)

    def _calm(self) -> None:
        self.world.note("calm")
        self.world.calm = True
        self.world.outages.clear()
        repaired = [log for log in self.broker.logs.values() if log.damaged is not None]
        for log in repaired:
            log.damaged = None
        for slot in self.slots:
            slot.process.frozen_until = 0.0
            if repaired:
                slot.stop()


def simulate(seed: int, *, keep_trace: bool = False) -> Report:
    """The same seed gives the same run, to the byte of its trace."""
    return Simulation(seed, keep_trace=keep_trace).run()


class _Log:
    """The worker's log goes into the trace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def info(self, event: str, **details: object) -> None:
        self._world.note("log", event, *details.values())

    def error(self, event: str, **details: object) -> None:
        self.info(event, **details)
        if "truncated" in str(details.get("why")):
            self._world.violate("liveness", f"no log was truncated: {details}")

    warning = info


@contextmanager
def _quiet(world: World) -> Iterator[None]:
    modules: tuple[Any, ...] = (engine, assignment, claiming, rejections)
    for module in modules:
        module.log = _Log(world)
    try:
        with patch.object(breaker, "FEWEST_BAD", FEWEST):
            yield
    finally:
        for module in modules:
            module.log = structlog.get_logger(module.__name__)
