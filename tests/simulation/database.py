"""PostgreSQL as far as the sink's promises go: row locks, claims, atomic commits. Every commit is audited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from penstock_consumer.interfaces import TopicPartition
from penstock_store.appending import Key
from penstock_store.errors import FenceLost, SinkUnavailable, TopicRecreated
from penstock_store.ingest import Batch, BatchPart, Claim, Outcome, PartitionRef
from penstock_store.ingest.decide import Decision, Fault, Known, counts, decide
from simulation.audit import Audit, Audited
from simulation.records import TOPIC
from simulation.world import Process, World

_LOCK = 8.0  # seconds for a row lock
_DEADLOCK = 1.0


class Deadlock(Exception):
    """Of two transactions that want each other's key: one is tried again."""


@dataclass(eq=False)
class Transaction:
    process: Process
    alive: bool = True
    limbo: bool = False
    """Its COMMIT is on the way and nobody waits for it any more."""
    refs: list[PartitionRef] = field(default_factory=list)
    keys: list[object] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


@dataclass
class Offset:
    topic_id: str = ""
    epoch: int = 0
    position: int | None = None
    attempts: int = 0


class Range(NamedTuple):
    first: int
    next: int
    counts: dict[Outcome, int]
    last_start: int
    last_counts: dict[Outcome, int]


Issued = tuple[str, PartitionRef, int]
"""Process, partition, epoch: a server that lost commits gives an epoch out again."""


class Saved(NamedTuple):
    """A replica's state, with what the audit holds of it."""

    offsets: dict[int, Offset]
    ranges: dict[PartitionRef, list[Range]]
    keys: dict[tuple[str, str], bytes]
    event_ids: set[bytes]
    sequence: int
    audited: Audited


class Database:
    def __init__(self, world: World, audit: Audit) -> None:
        self._world = world
        self._audit = audit
        self.offsets: dict[int, Offset] = {}
        self.ranges: dict[PartitionRef, list[Range]] = {}
        self.keys: dict[tuple[str, str], bytes] = {}
        self.event_ids: set[bytes] = set()
        self.sequence = 0
        self._row_locks: dict[int, Transaction] = {}
        self._key_locks: dict[object, Transaction] = {}
        self._issued: set[Issued] = set()
        self._given_up: set[Issued] = set()
        self._claimed: dict[tuple[str, int], int] = {}
        """On which server, by process and partition."""
        self._open: set[Transaction] = set()
        self.server = 0
        """How often another one took over."""
        self._before: dict[int, Offset] = {}
        """The furthest of what a lost server had said of each partition."""

    def position(self, where: TopicPartition, topic_id: str = "") -> int | None:
        """Of that topic alone, where its id is given."""
        offset = self.offsets.get(where.partition)
        return offset.position if offset and topic_id in ("", offset.topic_id) else None

    def row(self, ref: PartitionRef) -> Offset:
        """Of the topic's namesake too, as the table's key has no topic id."""
        return self.offsets.get(ref.partition, Offset())

    def published(self, where: TopicPartition) -> int:
        """As far as a worker may say that it came: servers that are lost count too."""
        return max(self.position(where) or 0, self._before.get(where.partition, Offset()).position or 0)

    # ── another server ─────────────────────────────────────────────────────────────────────────────────────

    def save(self) -> Saved:
        return Saved(
            {partition: replace(offset) for partition, offset in self.offsets.items()},
            {ref: list(ranges) for ref, ranges in self.ranges.items()},
            dict(self.keys),
            set(self.event_ids),
            self.sequence,
            self._audit.save(),
        )

    def go_back(self, saved: Saved) -> None:
        """A replica takes over that has nothing later than this: epochs are given out again, too."""
        for tx in list(self._open):
            self.end(tx)
        for partition, offset in self.offsets.items():
            before = self._before.setdefault(partition, Offset())
            before.epoch = max(before.epoch, offset.epoch)
            before.position = max(before.position or 0, offset.position or 0)
        self.offsets, self.ranges, self.keys, self.event_ids, self.sequence, audited = saved
        self._audit.go_back(audited)
        self.server += 1

    # ── transactions ───────────────────────────────────────────────────────────────────────────────────────

    def begin(self, process: Process, parts: Sequence[BatchPart]) -> Transaction:
        for part in parts:
            if (process.name, part.claim.ref, part.claim.epoch) in self._given_up:
                self._world.violate(
                    "zombies", f"{process.name} writes {part.claim.ref.partition} after it let go"
                )
        tx = Transaction(process)
        self._open.add(tx)
        return tx

    def end(self, tx: Transaction) -> None:
        """Committed, rolled back or put out: whoever waits goes on."""
        tx.alive = False
        self._open.discard(tx)
        for ref in tx.refs:
            self._row_locks.pop(ref.partition, None)
        for key in tx.keys:
            self._key_locks.pop(key, None)
        tx.refs, tx.keys = [], []
        for waiting in tx.waiting:
            if not waiting.done():
                waiting.set_result(None)
        tx.waiting = []

    async def _until_ended(self, tx: Transaction, seconds: float) -> bool:
        if not tx.alive:
            return True
        waiting = self._world.loop.create_future()
        tx.waiting.append(waiting)
        done, _ = await asyncio.wait({waiting}, timeout=seconds)
        return bool(done)

    async def _until_free(self, ref: PartitionRef) -> None:
        while (holder := self._row_locks.get(ref.partition)) is not None:
            if not await self._until_ended(holder, _LOCK):
                raise SinkUnavailable("waited too long for a row lock")

    def fence_holds(self, part: BatchPart) -> bool:
        offset = self.row(part.claim.ref)
        return (
            offset.topic_id == part.claim.ref.topic_id
            and offset.epoch == part.claim.epoch
            and offset.position == part.expected
        )

    async def fence(self, tx: Transaction, parts: Sequence[BatchPart]) -> None:
        for part in sorted(parts, key=lambda part: part.claim.ref):
            ref = part.claim.ref
            await self._until_free(ref)
            if not tx.alive:
                raise SinkUnavailable("terminated by an administrator")
            self._row_locks[ref.partition] = tx
            tx.refs.append(ref)
        lost = [part.claim.ref for part in parts if not self.fence_holds(part)]
        if lost:
            self._check_cause(parts)
            raise FenceLost(lost)

    def _check_cause(self, parts: Sequence[BatchPart]) -> None:
        """While its claim holds a worker alone moves the position, so it has to know it, or learn that
        another server has taken over since.
        """
        for part in parts:
            offset = self.row(part.claim.ref)
            if part.claim.epoch <= self._before.get(part.claim.ref.partition, Offset()).epoch:
                continue
            if offset.epoch == part.claim.epoch and offset.position not in (part.expected, part.next_offset):
                self._world.violate("fence", f"{part.expected} expected, {offset.position} is our own doing")

    def known(self, batch: Batch) -> Known:
        """What the unique indexes and the rows themselves say."""
        refused = self._audit.refused(batch)
        return Known(
            {key: self.keys[key] for key in batch.keys if key in self.keys},
            {event_id for event_id in batch.event_ids if event_id in self.event_ids},
            {index: Fault("the row is refused", "23514") for index in refused},
        )

    async def copy(self, tx: Transaction, batch: Batch, remembered: Mapping[Key, bytes]) -> Decision:
        """As unique indexes do: an uncommitted twin is waited for, then looked at again. What the worker
        remembers of stored keys it does not ask for.
        """
        wanted = [*batch.keys, *batch.event_ids]
        while True:
            holders = [self._key_locks.get(key) for key in wanted]
            other = next((holder for holder in holders if holder not in (None, tx)), None)
            if other is None:
                break
            if not await self._until_ended(other, _DEADLOCK):
                raise Deadlock
        if not tx.alive:
            raise SinkUnavailable("terminated by an administrator")
        known = self.known(batch)
        known.keys.update(remembered)
        decision = decide(batch, known)
        for index in decision.store:
            for key in (batch.keys[index], batch.event_ids[index]):
                self._key_locks[key] = tx
                tx.keys.append(key)
        return decision

    def draw(self, size: int) -> int:
        first = self.sequence + 1
        self.sequence += size
        return first

    def apply(self, tx: Transaction, batch: Batch, decision: Decision, first: int) -> None:
        """COMMIT."""
        if not tx.alive:
            raise SinkUnavailable("terminated by an administrator")
        self._world.note(
            "COMMIT", tx.process.name, [(p.claim.ref.partition, p.next_offset) for p in batch.parts]
        )
        for part in batch.parts:
            offset = self.row(part.claim.ref)
            if (offset.epoch, offset.position) != (part.claim.epoch, part.expected):
                self._world.violate("zombies", f"{tx.process.name} wrote {part.claim.ref.partition} unfenced")
        found = counts(batch, decision)
        self._audit.batch(batch, decision, found, self.keys, self.event_ids, first)
        for index in decision.store:
            self.keys[batch.keys[index]] = batch.hashes[index]
            self.event_ids.add(batch.event_ids[index])
        for part, count in zip(batch.parts, found, strict=True):
            self._move(part.claim.ref, part.next_offset)
            self._add_range(part, dict(count))
        self.end(tx)

    def _move(self, ref: PartitionRef, position: int) -> None:
        offset = self.row(ref)
        offset.position, offset.attempts = position, 0

    def _add_range(self, part: BatchPart, count: dict[Outcome, int]) -> None:
        ranges = self.ranges.setdefault(part.claim.ref, [])
        first, total = part.start, count
        if ranges and ranges[-1].next == first:
            before = ranges.pop()
            first, total = before.first, {key: before.counts[key] + count[key] for key in count}
        ranges.append(Range(first, part.next_offset, total, part.start, count))

    async def skip(self, process: Process, claim: Claim, first: int, next_offset: int) -> Claim:
        part = BatchPart(claim=claim, expected=claim.position, first_offset=first, next_offset=next_offset)
        tx = self.begin(process, [part])
        try:
            await self.fence(tx, [part])
            self._audit.skipped(claim, first, next_offset)
            self._world.note("SKIP", process.name, claim.ref.partition, first, next_offset)
            self._move(claim.ref, next_offset)
            if part.start < next_offset:
                self._add_range(part, dict.fromkeys(Outcome, 0))
        finally:
            self.end(tx)
        return replace(claim, position=next_offset)

    def in_limbo(self, tx: Transaction, batch: Batch, decision: Decision, first: int) -> None:
        """The client is gone or gave up; the server meets the COMMIT now, later or never."""
        fate = self._world.random.choice((0.0, 0.3, 2.0, None))
        self._world.note("limbo", tx.process.name, fate)
        if fate is None:
            return

        def arrive() -> None:
            if tx.alive:
                self.apply(tx, batch, decision, first)

        tx.limbo = True
        if fate:
            self._world.loop.call_later(fate, arrive)
        else:
            arrive()

    def committed_before(self, batch: Batch) -> list[dict[Outcome, int]] | None:
        found = []
        for part in batch.parts:
            offset, ranges = self.row(part.claim.ref), self.ranges.get(part.claim.ref)
            if (
                not ranges
                or (offset.epoch, offset.position) != (part.claim.epoch, part.next_offset)
                or (ranges[-1].next, ranges[-1].last_start) != (part.next_offset, part.start)
            ):
                return None
            found.append(ranges[-1].last_counts)
        return found

    # ── claims ─────────────────────────────────────────────────────────────────────────────────────────────

    def _meet(self, refs: Sequence[PartitionRef]) -> None:
        first = 0 if self.offsets else None  # there is one topic
        for ref in refs:
            self.offsets.setdefault(ref.partition, Offset(ref.topic_id, position=first))
            self._audit.met()

    def flows(self, process: Process, topic_id: str, partitions: Iterable[TopicPartition]) -> None:
        """By a claim of this server: what a lost one gave is claimed again."""
        for where in partitions:
            if self._claimed.get((process.name, where.partition)) == self.server:
                self._audit.flows(topic_id, where.partition)

    async def claim(
        self,
        process: Process,
        refs: Sequence[PartitionRef],
        met: Sequence[PartitionRef],
        patience: float,
    ) -> dict[PartitionRef, Claim]:
        others = {
            ref: row.topic_id for ref in refs if (row := self.row(ref)).topic_id not in ("", ref.topic_id)
        }
        if others:
            raise TopicRecreated(others)
        for ref in refs:
            while (holder := self._row_locks.get(ref.partition)) is not None:
                if not await self._until_ended(holder, patience):
                    self._world.note("terminate", holder.process.name)
                    self.end(holder)
        claims = {}
        self._meet(met)
        for ref in refs:
            holder = self._row_locks.get(ref.partition)
            if holder is not None:
                self.end(holder)
            offset = self.offsets.setdefault(ref.partition, Offset(ref.topic_id))
            if offset.topic_id != ref.topic_id:  # since it was looked at: nothing is returned of this one
                continue
            offset.epoch += 1
            offset.attempts += 1
            issued = process.name, ref, offset.epoch
            self._issued.add(issued)
            self._claimed[process.name, ref.partition] = self.server
            self._given_up.discard(issued)
            self._world.note("claim", process.name, ref.partition, offset.epoch, offset.position)
            claims[ref] = Claim(
                group_id="g",
                ref=ref,
                epoch=offset.epoch,
                position=offset.position,
                attempts=offset.attempts,
            )
        if missing := [ref for ref in refs if ref not in claims]:
            raise FenceLost(missing)
        return claims

    async def adopt(self, ref: PartitionRef) -> None:
        """The topic of that name is this one from now on."""
        await self._until_free(ref)
        offset = self.row(ref)
        if offset.topic_id in ("", ref.topic_id):
            raise FenceLost([ref])
        self._world.note("ADOPT", ref.partition, ref.topic_id)
        offset.topic_id, offset.epoch, offset.attempts = ref.topic_id, offset.epoch + 1, 0
        offset.position = self.first_of_adopted()

    def first_of_adopted(self) -> int | None:
        return 0

    def give_up(self, process: Process, claims: Sequence[Claim]) -> None:
        self._given_up.update((process.name, claim.ref, claim.epoch) for claim in claims)

    def release(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            offset = self.row(claim.ref)
            if (offset.topic_id, offset.epoch) == (claim.ref.topic_id, claim.epoch):
                offset.attempts = 0

    def given_up(self, process: Process, partitions: Sequence[TopicPartition]) -> None:
        """What the process claimed so far of these it may write no more."""
        self._given_up.update(
            one
            for one in self._issued
            if one[0] == process.name and TopicPartition(TOPIC, one[1].partition) in partitions
        )
