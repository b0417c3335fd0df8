"""Kafka as far as the worker sees it: logs, a consumer group, the client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from penstock_consumer.errors import SourceUnavailable
from penstock_consumer.interfaces import Inspected, Listener, PartitionState, TopicPartition
from simulation.records import TOPIC, Log, SimRecord
from simulation.world import Killed, Process, World

if TYPE_CHECKING:
    from simulation.database import Database

SESSION = 2.0  # seconds until the group gives up a member that died or does not let go
POLLS = 60.0  # seconds between two polls, after which a real group would give up a member that lives


class Broker:
    """The logs, and the group's coordinator (cooperative: a partition moves once its owner let go)."""

    def __init__(self, world: World, partitions: int) -> None:
        self._world = world
        self.topic_id = "t-0"
        self._topics = 0
        self.every: dict[tuple[str, int], Log] = {}
        """Those of deleted topics too, by topic id and partition."""
        self.logs: dict[TopicPartition, Log] = {}
        self.make_topic(partitions)
        self.owner: dict[TopicPartition, SimSource | None] = dict.fromkeys(self.logs)
        self._going: set[TopicPartition] = set()
        self.members: list[SimSource] = []
        self.produce: Callable[[TopicPartition], None]

    def make_topic(self, partitions: int) -> None:
        """Anew, where there is one: under its name, with empty logs."""
        self._topics += 1
        self.topic_id = f"t-{self._topics}"
        for number in range(partitions):
            self.make_log(number)

    def make_log(self, number: int) -> Log:
        """Nobody owns it before the group finds it."""
        log = Log(TopicPartition(TOPIC, number), self.topic_id, made=self._world.loop.time())
        self.logs[log.where] = self.every[self.topic_id, number] = log
        return log

    def find(self, where: TopicPartition) -> None:
        """The group's members ask for the topic's partitions now and then."""
        self.owner.setdefault(where, None)
        self.rebalance(0.0)

    def join(self, member: SimSource) -> None:
        if member not in self.members:
            self.members.append(member)
            self.rebalance(0.5)

    def evict(self, member: SimSource) -> None:
        """Its partitions go to others at once; it learns of it late, and works on until then."""
        if member not in self.members:
            return
        self.members.remove(member)
        self._free([where for where, owner in self.owner.items() if owner is member])
        late = 0.0 if self._world.calm else self._world.random.choice((0.0, 0.2, 1.0, 4.0))
        self._world.note("evict", member.process.name, late)
        self._world.loop.call_later(late, member.tell_lost)

    def left(self, member: SimSource) -> None:
        if member in self.members:
            self.members.remove(member)
        self._free([where for where, owner in self.owner.items() if owner is member])

    def let_go(self, member: SimSource, partitions: Sequence[TopicPartition]) -> None:
        self._free([where for where in partitions if self.owner[where] is member])

    def _free(self, partitions: Sequence[TopicPartition]) -> None:
        for where in partitions:
            self.owner[where] = None
            self._going.discard(where)
        self.rebalance(0.0)

    def rebalance(self, moves: float) -> None:
        """Give every partition an owner; `moves` is the share of those that change theirs."""
        random = self._world.random
        for where, owner in self.owner.items():
            if not self.members:
                return
            if owner is None:
                owner = self.owner[where] = random.choice(self.members)
                owner.tell("assigned", where)
            elif where not in self._going and random.random() < moves:
                self._going.add(where)
                owner.tell("revoked", where)
                self._world.loop.call_later(SESSION, self._overdue, owner, where)

    def _overdue(self, owner: SimSource, where: TopicPartition) -> None:
        if where in self._going and self.owner[where] is owner and not self._world.calm:
            self.evict(owner)


class SimSource:
    """A member of the group, as `Source` describes it."""

    cluster_id = "cluster"

    def __init__(self, world: World, broker: Broker, database: Database, process: Process) -> None:
        self._world = world
        self._broker = broker
        self._database = database
        self.process = process
        self.positions: dict[TopicPartition, int] = {}
        self.assigned: list[TopicPartition] = []
        self._left_over: dict[TopicPartition, int] = {}
        self._told: deque[tuple[str, TopicPartition]] = deque()
        self._news: asyncio.Future[None] | None = None
        self._polled = world.loop.time()
        self._closed = False
        self.listener: Listener

    def tell(self, what: str, where: TopicPartition) -> None:
        self._told.append((what, where))
        self.wake()

    def tell_lost(self) -> None:
        if not self._closed:
            self._told.clear()
            self._told.append(("lost", TopicPartition(TOPIC, -1)))
            self.wake()

    def wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def start(self, listener: Listener) -> None:
        self.listener = listener
        await self._world.pause(self.process, "join")
        self._broker.join(self)

    async def fetch(self, limit: int, wait: float, linger: float) -> Sequence[SimRecord]:
        self._watch_polls()
        end = self._world.loop.time() + wait
        await self._world.pause(self.process, "fetch")
        while True:
            await self._callbacks()
            if self._world.hit("misplaced") and self.positions:
                self.listener.misplaced(self._world.random.choice(list(self.positions)))
            found = self._take(limit)
            left = end - self._world.loop.time()
            if found or left <= 0:
                break
            await self._wait(left)
        if found and linger and len(found) < limit and self._world.random.random() < 0.2:
            await asyncio.sleep(linger)
            found += self._take(limit - len(found))
        self._world.note(self.process.name, "fetched", [(one.where.partition, one.number) for one in found])
        await self._world.pause(self.process, "hand over")
        self._polled = self._world.loop.time()
        return found

    def _watch_polls(self) -> None:
        if self._world.loop.time() - self._polled > POLLS:
            self._world.violate("membership", f"{self.process.name} did not poll for {POLLS} s")

    async def _wait(self, seconds: float) -> None:
        self._news = self._world.loop.create_future()
        timer = self._world.loop.call_later(seconds, self.wake)
        try:
            await self._news
        finally:
            timer.cancel()
        if self.process.dead:
            raise Killed

    async def _callbacks(self) -> None:
        while self._told:
            what, where = self._told.popleft()
            self._world.note(self.process.name, what, where.partition)
            if what == "assigned":
                self.assigned.append(where)
                self.listener.assigned([where])
            elif what == "revoked":
                await self._tell(self.listener.revoked, [where])
                self._forget([where])
                self._broker.let_go(self, [where])
            else:
                gone = list(self.assigned)
                await self._tell(self.listener.lost, gone)
                self._forget(gone)
                if not self._closed:
                    self._broker.join(self)

    async def _tell(self, what: object, partitions: Sequence[TopicPartition]) -> None:
        """As the real source: in a task of its own, with a second deadline."""
        told = asyncio.create_task(what(partitions))  # type: ignore[operator]
        await asyncio.wait({told}, timeout=30)
        if not told.done():
            self._world.violate("liveness", f"{self.process.name}: a rebalance was not handled in 30 s")
            told.cancel()
        elif told.cancelled():
            raise asyncio.CancelledError
        elif (error := told.exception()) is not None:
            if not self.process.dead:
                self._world.violate("engine", f"a rebalance ended in {error!r}")
            raise Killed

    def _forget(self, partitions: Sequence[TopicPartition]) -> None:
        self._database.given_up(self.process, partitions)
        for where in partitions:
            self.assigned.remove(where)
            self._stop(where)

    def _stop(self, where: TopicPartition) -> None:
        position = self.positions.pop(where, None)
        if position is not None:
            self._left_over[where] = position

    def _take(self, limit: int) -> list[SimRecord]:
        """Runs of any length, the partitions in any order."""
        random, found, damaged = self._world.random, list[SimRecord](), list[TopicPartition]()
        if self._left_over and self._world.hit("straggler"):
            where = random.choice(list(self._left_over))
            position = self._left_over[where]
            log = self._broker.logs[where]
            found += [one for one in log.between(position, position + 3) if one.number != log.damaged][:limit]
        logs = self._broker.logs
        order = [
            where for where in self.positions if logs[where].led and self.positions[where] < logs[where].ended
        ]
        random.shuffle(order)
        for where in order:
            log, position = self._broker.logs[where], self.positions[where]
            if position < log.low:
                del self.positions[where]
                self.listener.misplaced(where)
                continue
            if self._world.hit("redeliver"):
                found += list(log.between(max(0, position - 4), position))[: limit - len(found)]
            for record in log.between(position, log.ended):
                if len(found) >= limit or random.random() < 0.03:
                    break
                if record.number == log.damaged:  # the client goes on with what is behind it
                    damaged.append(where)
                    continue
                found.append(record)
                self.positions[where] = record.number + 1
            else:
                self.positions[where] = log.ended
        for where in damaged:
            self._stop(where)
            self.listener.unreadable(where, "it fails its checksum")
        return found

    async def flow(self, starts: Mapping[TopicPartition, int]) -> None:
        await self._ask("flow")
        for where, start in starts.items():
            self._world.note("start", where.partition, start)
            self._left_over.pop(where, None)
            self.positions[where] = start
        self._database.flows(self.process, self._broker.topic_id, starts)

    async def hold(self, partitions: Sequence[TopicPartition]) -> None:
        await self._world.pause(self.process, "hold")
        for where in partitions:
            self._stop(where)

    async def inspect(self, partitions: Sequence[TopicPartition]) -> Inspected:
        await self._ask("inspect")
        found = {where: self._state(where) for where in partitions}
        if self._world.hit("overtaken"):
            self._broker.produce(self._world.random.choice(list(partitions)))
            await asyncio.sleep(3 * self._world.random.random())
        await self._world.pause(self.process, "inspected")
        return found

    def _state(self, where: TopicPartition) -> PartitionState | SourceUnavailable:
        log, partitions = self._broker.logs[where], len(self._broker.logs)
        if not log.led:
            return SourceUnavailable("it has no leader")
        return PartitionState(self._broker.topic_id, log.low, log.ended, partitions)

    async def _ask(self, what: str) -> None:
        await self._world.pause(self.process, what)
        if self._world.hit("kafka"):
            raise SourceUnavailable("Kafka does not answer")

    def publish(self, positions: Mapping[TopicPartition, int]) -> None:
        if not self.process.dead:
            for where, position in positions.items():
                if position > self._database.published(where):
                    self._world.violate("nothing lost", f"{where.partition}@{position} published too early")

    async def close(self) -> None:
        self._closed = True
        await self._world.pause(self.process, "close")
        self._told.clear()
        if self.assigned:
            gone = list(self.assigned)
            await self._tell(self.listener.revoked, gone)
            self._forget(gone)
        self._broker.left(self)
