"""The worker's other ends: the sink over the simulated database, the dead-letter topic, the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock_consumer.errors import DeadLettersUnavailable
from penstock_consumer.interfaces import DeadLetter
from penstock_schemas.errors import RegistryRefused, RegistryUnavailable, UnknownSchemaId
from penstock_store.errors import FenceLost, SinkUnavailable
from penstock_store.ingest import Batch, Claim, PartitionRef, Rejection, WriteResult
from penstock_store.ingest._recent_keys import RecentKeys
from penstock_store.ingest.decide import Decision, counts
from simulation.audit import LIMIT, Audit
from simulation.database import Database, Deadlock, Transaction
from simulation.records import UNKNOWN
from simulation.world import Killed, Process, World

Reject = Callable[[Sequence[Rejection]], Awaitable[None]]

_ATTEMPTS = 3
_PATIENCE = 1.0


class SimSink:
    """The steps of `PostgresSink`, each of which may be slow, fail, or be the last one of its process."""

    def __init__(self, world: World, database: Database, process: Process) -> None:
        self._world = world
        self._database = database
        self._process = process
        self._writing = asyncio.Lock()
        self._controlling = asyncio.Lock()
        self._server = database.server
        self._recent = RecentKeys()

    async def _step(self, what: str, tx: Transaction | None = None) -> None:
        await self._world.pause(self._process, what)
        if tx is not None and not tx.alive:
            raise SinkUnavailable("terminated by an administrator")
        if self._world.hit("database") or self._world.down("database"):
            raise SinkUnavailable("PostgreSQL is away")

    def _forget(self) -> None:
        """What another server had stored this one may lack."""
        self._recent = RecentKeys()

    async def claim(
        self, refs: Sequence[PartitionRef], met: Sequence[PartitionRef] = (), /
    ) -> Mapping[PartitionRef, Claim]:
        async with self._controlling:
            await self._step("claim")
            claims = await self._database.claim(self._process, refs, met, _PATIENCE)
            await self._world.pause(self._process, "claimed")
            if self._world.hit("claim_lost"):
                raise SinkUnavailable("the connection broke")
            return claims

    async def release(self, claims: Sequence[Claim], /) -> None:
        self._database.give_up(self._process, claims)
        async with self._controlling:
            await self._step("release")
            self._database.release(claims)

    async def adopt(self, ref: PartitionRef, /) -> None:
        async with self._controlling:
            await self._step("adopt")
            await self._database.adopt(ref)
            await self._world.pause(self._process, "adopted")
            if self._world.hit("claim_lost"):
                raise SinkUnavailable("the connection broke")

    async def skip(self, claim: Claim, first: int, next_offset: int, reason: str) -> Claim:
        async with self._writing:
            await self._step("skip")
            if self._world.hit("skip"):
                raise SinkUnavailable("PostgreSQL is away")
            skipped = await self._database.skip(self._process, claim, first, next_offset)
            await self._world.pause(self._process, "skipped")
            if self._world.hit("claim_lost"):
                raise SinkUnavailable("the connection broke")
            return skipped

    async def write(self, batch: Batch, /, *, reject: Reject) -> WriteResult:
        self._check_bound(batch)
        try:
            async with self._writing:
                for _ in range(_ATTEMPTS):
                    try:
                        return await self._attempt(batch, reject)
                    except Deadlock:
                        continue
        except asyncio.CancelledError:
            if self._world.hit("stubborn"):
                await asyncio.sleep(8 * self._world.random.random())
            raise
        raise SinkUnavailable("met other transactions' changes")

    def _check_bound(self, batch: Batch) -> None:
        records = len(batch) + sum(part.dead_lettered + part.tombstones for part in batch.parts)
        if records > LIMIT:
            self._world.violate("bounded", f"a batch of {records}")

    async def _attempt(self, batch: Batch, reject: Reject) -> WriteResult:
        await self._step("connect")
        if self._server != self._database.server:
            self._server = self._database.server
            self._forget()
        tx = self._database.begin(self._process, batch.parts)
        try:
            await self._step("begin", tx)
            await self._database.fence(tx, batch.parts)
            first = self._database.draw(len(batch))
            await self._step("copy", tx)
            remembered = self._recent.known("p", batch)
            decision = await self._database.copy(tx, batch, remembered)
            await self._step("copied", tx)
            if decision.rejections:
                await reject(decision.rejections)
                await self._step("rejected", tx)
            await self._commit(tx, batch, decision, first)
        except FenceLost:
            self._database.end(tx)
            await self._step("recover")
            if (found := self._database.committed_before(batch)) is not None:
                return WriteResult(counts=tuple(found), partition=None, already_committed=True)
            self._forget()
            raise
        finally:
            if not tx.limbo:
                self._database.end(tx)
        self._recent.stored("p", batch, decision.store)
        return WriteResult(counts=counts(batch, decision), partition="p")

    async def _commit(self, tx: Transaction, batch: Batch, decision: Decision, first: int) -> None:
        try:
            await self._world.pause(self._process, "commit")
        except (asyncio.CancelledError, Killed):
            self._database.in_limbo(tx, batch, decision, first)
            raise
        if self._world.down("database"):
            raise SinkUnavailable("PostgreSQL is away")
        if self._world.hit("commit_lost"):
            self._database.in_limbo(tx, batch, decision, first)
            raise SinkUnavailable("the connection broke before COMMIT was answered")
        self._database.apply(tx, batch, decision, first)
        await self._world.pause(self._process, "committed")


@dataclass
class SimLetters:
    world: World
    process: Process
    audit: Audit

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        await self.world.pause(self.process, "letters")
        if self.world.hit("letters") or self.world.down("letters"):
            raise DeadLettersUnavailable("not acknowledged")
        for letter in letters:
            self.audit.letter(letter, self.process)
        self.world.note("letters", [(at.record.partition(), at.record.offset()) for at in letters])
        await self.world.pause(self.process, "letters acknowledged")
        if self.world.hit("letters_lost"):
            raise DeadLettersUnavailable("the acknowledgement was lost")


@dataclass
class SimRegistry:
    world: World
    process: Process
    asked: list[int] = field(default_factory=list)

    async def schema(self, schema_id: int) -> str:
        await self.world.pause(self.process, f"schema {schema_id}")
        if self.world.hit("registry") or self.world.down("registry"):
            raise self.world.random.choice((RegistryUnavailable, RegistryRefused))("no answer")
        if schema_id == UNKNOWN:
            raise UnknownSchemaId(schema_id, "the registry")
        return "{}"
