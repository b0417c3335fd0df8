"""The worker's whole story: poll ▸ decode ▸ batch ▸ write ▸ commit.

Two coroutines. The *intake* fetches a chunk, decodes it into the pending batch and fetches again. The
*writer* takes the pending batch when one is due, writes it in one transaction of PostgreSQL and comes back
for the next; meanwhile the intake fills that one. So a quiet system writes small batches at once and a busy
one big ones.

What keeps the promises:

* A position moves in the transaction that writes the records below it (the sink), or not at all. The
  engine's own positions (`Lane`) say what to accept next; the Kafka client's are never asked for.
* A partition flows only after its claim, from the position the claim returns. To pause is to stop fetching,
  to resume is to fetch from our position again: one mechanism, no seek.
* Whatever is unclear (fence lost, answer lost, partition lost, drain too slow) ends in `_reset`: drop
  everything that is not committed, claim again, go on from what PostgreSQL holds.
* The source calls back only inside `fetch` and `close`, when the intake does nothing else; so only the
  writer runs beside a change of assignment. Whoever waits with `_hold` fetches as well: after it the batch
  may be another one and every lane gone, so `_decode` looks them up anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from random import Random

import structlog

from penstock_consumer.assignment import Assignment
from penstock_consumer.backoff import Backoff
from penstock_consumer.batching import PendingBatch, fill
from penstock_consumer.breaker import DeadLetterBreaker
from penstock_consumer.errors import ConsumerError, DeadLettersUnavailable, SinkFailed, SourceUnavailable
from penstock_consumer.health import WorkerHealth
from penstock_consumer.interfaces import (
    Clock,
    DeadLetterSink,
    Offload,
    Record,
    RecordDecoder,
    SchemaSource,
    Sink,
    Source,
    TopicPartition,
)
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.rejections import Rejects
from penstock_consumer.rhythm import Rhythm
from penstock_consumer.settings import WorkerSettings
from penstock_schemas.errors import DecodeError, RegistryRefused, RegistryUnavailable, UnsupportedSchema
from penstock_store.errors import FenceLost, SinkBroken, SinkError, SinkUnavailable
from penstock_store.ingest import Claim, WriteResult

__all__ = ["Engine"]

log = structlog.get_logger(__name__)

_KEEP_ALIVE = 0.25  # seconds of one poll while partitions are held: bounds how late they flow again
_DRAIN_SHARE = 0.75  # of the grace period; the rest is for claims and the group
# Records at a time, where one may take two processes 10 s each: the loop goes round within a minute.
_CAREFULLY = 2
_CANCEL = 5.0  # seconds for a cancelled write to let go; if it does not, the fence answers for it


class Engine:
    """One worker. `run` returns after `stop`, or raises what ended it; every collaborator is passed in."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        dead_letters: DeadLetterSink,
        schemas: SchemaSource,
        decoder: RecordDecoder,
        clock: Clock,
        offload: Offload,
        random: Random,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        health: WorkerHealth,
        careful: RecordDecoder | None = None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._dead_letters = dead_letters
        self._schemas = schemas
        self._decoder = decoder
        self._careful = decoder if careful is None else careful
        self._clock = clock
        self._offload = offload
        self._random = random
        self._settings = settings
        self._rhythm = Rhythm(settings.batch)
        self._metrics = metrics
        self._health = health
        self._assignment = Assignment(
            source=source,
            sink=sink,
            clock=clock,
            random=random,
            settings=settings,
            metrics=metrics,
            health=health,
        )
        self._breaker = DeadLetterBreaker(settings.dead_letter_share, settings.dead_letter_window)
        self._stopping = False
        self._misplaced = False
        self._batch = PendingBatch(0.0)
        self._in_flight: PendingBatch | None = None
        self._decoding = asyncio.Lock()  # held while a chunk goes into the pending batch
        self._due = asyncio.Event()  # the pending batch may be taken
        self._moved = asyncio.Event()  # a batch was taken or settled, or the writer ended
        self._writer: asyncio.Task[None]

    # ── the story ──────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """Ask for the end: what is decoded is written, claims are released, the group is left."""
        self._stopping = True

    async def run(self) -> None:
        """Ingest until `stop`. Raises `SinkFailed`, `PoisonFlood`, `SourceFailed`, `DeadLettersRefused`."""
        orderly = True
        self._start_writer()
        try:
            await self._source.start(self)
            while not self._stopping:
                self._health.beat()
                await self._check_writer()
                await self._check_topics()
                await self._flow(await self._assignment.claim_due())
                await self._take_some()
            await self._drain(self._settings.grace * _DRAIN_SHARE)
            await self._check_writer()
        except SinkBroken as error:
            raise SinkFailed(str(error)) from error
        except ConsumerError:
            raise
        except BaseException:  # perhaps a record's doing: what it lay in counts this as an attempt
            orderly = False
            raise
        finally:
            await self._leave(orderly)

    async def _take_some(self) -> None:
        """One step of the intake: fetch, decode, and say whether the batch is due."""
        rhythm, asked = self._rhythm, self._rhythm.chunk(self._batch)
        if self._assignment.suspects():
            asked = min(asked, _CAREFULLY)
        if rhythm.is_full(self._batch):
            await self._hold(self._until(lambda: not rhythm.is_full(self._batch)))
            return
        patience = rhythm.patience(self._batch, due=self._due.is_set())
        records = await self._source.fetch(asked, patience, self._settings.batch.linger)
        if records:
            await self._decode(records)
        if rhythm.is_due(self._batch, self._clock.monotonic(), caught_up=len(records) < asked):
            self._due.set()

    async def _decode(self, records: Sequence[Record]) -> None:
        """Put a chunk into the pending batch, fetching the schemas that it turns out to need."""
        begin, lanes, unknown = 0, self._assignment.lanes, dict[int, DecodeError]()
        while not self._stopping and not self._writer.done():
            async with self._decoding:
                batch, started = self._batch, self._clock.monotonic()
                if not batch:
                    batch.opened = started
                before = batch.records
                begin, schema_id = await self._offload(
                    fill, batch, records, begin, lanes, self._decoder, unknown, self._careful
                )
                batch.decode_seconds += self._clock.monotonic() - started
                if batch.records > before:
                    batch.keep(records)
            for lane in list(lanes.values()):
                if lane.replaced:
                    self.misplaced(lane.partition, truncated=True)
            self._metrics.taken(lanes.values())
            self._metrics.buffered(self._in_flight, self._batch)
            if schema_id is None:
                return
            await self._learn(schema_id, unknown)

    async def _learn(self, schema_id: int, unknown: dict[int, DecodeError]) -> None:
        """Ask the registry until it answers. Its silence is no record's fault."""
        backoff = Backoff(self._random)
        while not self._stopping and not self._writer.done():
            try:
                schema = await self._schemas.schema(schema_id)
            except DecodeError as error:  # unknown to the registry, or not Avro
                unknown[schema_id] = error
                break
            except (RegistryUnavailable, RegistryRefused) as error:
                self._health.registry_up = False
                self._metrics.registry_errors.inc()
                self._due.set()  # what was decoded need not wait for the registry
                await self._wait_to_retry("schema", backoff, error, self._hold)
            else:
                with suppress(UnsupportedSchema):  # the decoder remembers, and refuses its records one by one
                    self._careful.add_schema(schema_id, schema)
                break
        self._health.registry_up = True

    async def _write_batches(self) -> None:
        """The writer: takes what is due, while the intake already fills the next batch."""
        while True:
            await self._due.wait()
            async with self._decoding:
                self._due.clear()
                if not self._batch:
                    continue
                batch, self._batch = self._batch, PendingBatch(self._clock.monotonic())
                self._in_flight = batch
                self._rhythm.taken()
                batch.seal()
            self._moved.set()
            result = await self._write(batch)
            self._settle(batch, result)
            self._in_flight = None
            self._moved.set()

    async def _write(self, batch: PendingBatch) -> WriteResult:
        """One batch, tried until PostgreSQL and the dead-letter topic take it or the fence refuses it."""
        backoff = Backoff(self._random)
        self._breaker.begin(batch)
        rejects = Rejects(
            batch, self._dead_letters, self._settings.conflicts, self._metrics, self._breaker.refused
        )
        while True:
            started = self._clock.monotonic()
            try:
                await rejects.send_owed()
                result = await self._sink.write(batch.rows, reject=rejects.send_rejected)
            except SinkUnavailable as error:
                self._health.database_up = False
                self._metrics.database_failed(error.sqlstate)
                await self._wait_to_retry("write", backoff, error)
            except DeadLettersUnavailable as error:
                self._health.dead_letters_up = False
                await self._wait_to_retry("dead_letters", backoff, error)
            else:
                self._health.database_up = self._health.dead_letters_up = True
                self._metrics.write_seconds.observe(self._clock.monotonic() - started)
                return result

    def _settle(self, batch: PendingBatch, result: WriteResult) -> None:
        now = self._clock.monotonic()
        batch.committed()
        self._metrics.committed(batch, result, now=self._clock.time(), age=now - batch.opened)
        self._metrics.buffered(self._batch)
        self._source.publish(
            {
                lane.partition: part.next_offset
                for lane, part in zip(batch.lanes, batch.rows.parts, strict=True)
            }
        )

    # ── changes of assignment: the source calls these inside `fetch` and `close` ───────────────────────────

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """See `Listener`."""
        self._health.joined = True
        self._metrics.rebalances.labels("assigned").inc()
        self._assignment.add(partitions)

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Write what is decoded, then let go. What cannot be written in time the next owner reads again."""
        self._metrics.rebalances.labels("revoked").inc()
        if not await self._drain(self._settings.drain):
            await self._reset()
        await self._release(self._assignment.forget(partitions))

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else's already: commit nothing of it."""
        self._metrics.rebalances.labels("lost").inc()
        log.warning("partitions_lost", count=len(partitions))
        self._assignment.forget(partitions)
        await self._reset()

    def misplaced(self, partition: TopicPartition, *, truncated: bool = False) -> None:
        """Claimed anew by the intake, which then sees what is missing."""
        log.warning(
            "offset_not_at_broker",
            topic=partition.topic,
            partition=partition.partition,
            truncated=truncated,
        )
        if truncated:
            self._assignment.replaced(partition)
        self._misplaced = True

    def unreadable(self, partition: TopicPartition, why: str) -> None:
        """Nothing of it is taken any more, lest the position pass what could not be read."""
        self._assignment.stop(partition, f"{why}. Repair the topic's log, then start the worker again")

    # ── waiting, recovering, leaving ───────────────────────────────────────────────────────────────────────

    async def _hold(self, waited: Awaitable[object]) -> None:
        """Wait however long it takes and stay a member: after a while nothing flows, and polling goes on."""
        waiting = asyncio.ensure_future(waited)
        try:
            await asyncio.wait({waiting}, timeout=self._settings.pause_after)
            if waiting.done():
                return
            lanes = self._assignment.lanes
            await self._source.hold(list(lanes))
            self._metrics.partitions.labels("paused").set(len(lanes))
            while not waiting.done() and not self._stopping:
                self._health.beat()
                # brings nothing; a straggler is dropped, and fetched again
                await self._source.fetch(1, _KEEP_ALIVE, 0.0)
                await self._look_at_topics()  # an outage is when somebody looks at the lag
            self._metrics.partitions.labels("paused").set(0)
            await self._flow({partition: lane.resume for partition, lane in lanes.items()})
        finally:
            waiting.cancel()

    async def _flow(self, starts: Mapping[TopicPartition, int]) -> None:
        """Begin to fetch; where the client cannot just now, as in the middle of a rebalance, claim again."""
        if not starts:
            return
        try:
            await self._source.flow(starts)
        except SourceUnavailable as error:
            log.warning("not_flowing", cause=str(error))
            await self._reset(list(starts), 1.0)

    async def _wait_to_retry(
        self,
        operation: str,
        backoff: Backoff,
        cause: Exception,
        wait: Callable[[Awaitable[object]], Awaitable[None]] | None = None,
    ) -> None:
        seconds = backoff.next()
        self._metrics.retries.labels(operation).inc()
        log.warning(
            "retrying",
            operation=operation,
            attempt=backoff.attempts,
            seconds=round(seconds, 2),
            cause=str(cause),
        )
        sleep = self._clock.sleep(seconds)
        await (sleep if wait is None else wait(sleep))

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Returns once the condition holds or the writer has ended; looked at whenever a batch moves."""
        while not condition() and not self._writer.done():
            self._moved.clear()
            await self._moved.wait()

    async def _drain(self, seconds: float) -> bool:
        """Whether everything that was decoded could be committed within `seconds`; not waited for while
        PostgreSQL is away.
        """

        def empty() -> bool:
            if self._batch:
                self._due.set()
            return not self._batch and self._in_flight is None

        try:
            async with asyncio.timeout(seconds if self._health.database_up else 0.0):
                await self._until(empty)
        except TimeoutError:
            log.warning("drain_too_slow", seconds=seconds, records=self._batch.records)
        return empty()

    async def _check_writer(self) -> None:
        """Recover from a lost fence; anything else that ended the writer ends the worker."""
        if not self._writer.done():
            return
        fault = self._writers_fault()
        if fault is not None and not isinstance(fault, FenceLost):
            raise fault
        await self._reset()

    def _writers_fault(self) -> BaseException | None:
        """What ended the writer, unless it runs or was told to end."""
        ended = self._writer.done() and not self._writer.cancelled()
        return self._writer.exception() if ended else None

    def _note_lost(self, fault: FenceLost) -> list[TopicPartition]:
        lost = [TopicPartition(ref.topic, ref.partition) for ref in fault.refs]
        for partition in lost:
            self._metrics.fence_lost.labels(partition.topic).inc()
        log.warning("fence_lost", cause=str(fault))
        return lost

    async def _check_topics(self) -> None:
        await self._look_at_topics()
        if self._misplaced:
            self._misplaced = False
            await self._reset()

    async def _look_at_topics(self) -> None:
        if await self._assignment.changed():
            self._misplaced = True

    async def _reset(self, slow: Sequence[TopicPartition] = (), delay: float = 0.0) -> None:
        """Forget all that is not committed and claim every partition again; PostgreSQL says where they
        stand.
        """
        fault = self._writers_fault()
        await self._stop_writer()
        self._batch, self._in_flight = PendingBatch(self._clock.monotonic()), None
        self._metrics.buffered(self._batch)
        if isinstance(fault, FenceLost):
            slow, delay = self._note_lost(fault), self._settings.fence_backoff
        self._assignment.reset(slow, delay)
        if fault is None or isinstance(fault, FenceLost):  # else `_check_writer` is still to see it
            self._start_writer()

    async def _release(self, claims: Sequence[Claim]) -> None:
        if claims:
            with suppress(
                SinkError
            ):  # a claim that is not released is taken over all the same, only less politely
                await self._sink.release(claims)

    async def _leave(self, orderly: bool) -> None:
        await self._stop_writer()
        self._batch, self._in_flight = PendingBatch(0.0), None
        claims = self._assignment.give_up()
        await self._release(claims if orderly else ())
        await self._source.close()

    def _start_writer(self) -> None:
        self._due.clear()
        self._writer = asyncio.create_task(self._write_batches(), name="writer")
        self._writer.add_done_callback(lambda _: self._moved.set())
        self._moved.set()

    async def _stop_writer(self) -> None:
        self._writer.cancel()
        await asyncio.wait({self._writer}, timeout=_CANCEL)
