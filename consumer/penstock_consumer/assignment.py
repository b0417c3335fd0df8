"""The partitions that the group gave us, and where each of them stands: pending, flowing or stopped.

Pending: to be claimed in PostgreSQL, which says where to go on. Flowing: a lane. Stopped: the broker does
not have what comes next, and an operator must say that the loss is accepted.
"""

from collections.abc import Iterable, Sequence
from random import Random

import structlog

from penstock_consumer.backoff import Backoff
from penstock_consumer.batching import Lane
from penstock_consumer.claiming import Claiming, name_of, names_of
from penstock_consumer.errors import SourceUnavailable
from penstock_consumer.health import WorkerHealth
from penstock_consumer.interfaces import Clock, Inspected, PartitionState, Sink, Source, TopicPartition
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.placement import TRUNCATED, Loss, place
from penstock_consumer.settings import WorkerSettings
from penstock_store.errors import FenceLost, SinkUnavailable, TopicRecreated
from penstock_store.ingest import Claim

__all__ = ["Assignment"]

log = structlog.get_logger(__name__)

_SUSPECT = 3  # claims in a row without progress: what a worker that died had in hand may have ended it


class Assignment:
    """Claims what is pending and remembers what is ours. The engine's intake calls it, one call at a time,
    and what the source calls back inside of a fetch, while the intake waits for that.
    """

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        clock: Clock,
        random: Random,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        health: WorkerHealth,
    ) -> None:
        self._source = source
        self._sink = sink
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._claiming = Claiming(source, sink, settings, self._stop)
        self._backoff = Backoff(random)
        self._no_answer = Backoff(random)
        self._pending: dict[TopicPartition, float] = {}
        self._stopped: dict[TopicPartition, str] = {}
        self.lanes: dict[TopicPartition, Lane] = {}
        self._claims: dict[TopicPartition, Claim] = {}
        self._replaced: dict[TopicPartition, str] = {}  # by the topic's id
        self._checked = clock.monotonic()

    def add(self, partitions: Iterable[TopicPartition], delay: float = 0.0) -> None:
        """The group gave us these; claim them after `delay` seconds."""
        due = self._clock.monotonic() + delay
        for partition in partitions:
            self._pending[partition] = due
        self._count()

    def forget(self, partitions: Iterable[TopicPartition]) -> list[Claim]:
        """Not ours any more; returns the claims to release."""
        claims = []
        for partition in partitions:
            self._pending.pop(partition, None)
            self._stopped.pop(partition, None)
            self._replaced.pop(partition, None)
            self.lanes.pop(partition, None)
            if claim := self._claims.pop(partition, None):
                claims.append(claim)
            self._metrics.forgotten(partition)
        self._count()
        return claims

    def reset(self, slow: Iterable[TopicPartition] = (), delay: float = 0.0) -> None:
        """Every lane is claimed anew, since what was decoded of it is dropped; those in `slow` after
        `delay`.
        """
        partitions = list(self.lanes)
        self.lanes.clear()
        self.add(partitions)
        self.add([partition for partition in slow if partition in self._pending], delay)

    def give_up(self) -> list[Claim]:
        """Forget everything; returns the claims to release."""
        return self.forget([*self._pending, *self._stopped, *self.lanes, *self._claims])

    def suspects(self) -> bool:
        """Whether one of the next records may have ended a worker."""
        return any(lane.next < lane.suspect_below for lane in self.lanes.values())

    async def claim_due(self) -> dict[TopicPartition, int]:
        """Claim what is due; returns the offsets from which the new lanes flow. Waits out what is
        unavailable.
        """
        now = self._clock.monotonic()
        due = [partition for partition, at in self._pending.items() if at <= now]
        if not due:
            return {}
        try:
            return await self._claim(due)
        except (SourceUnavailable, SinkUnavailable, FenceLost, TopicRecreated) as error:
            if not isinstance(error, SourceUnavailable):  # else PostgreSQL was not asked
                self._health.database_up = not isinstance(error, SinkUnavailable)
                self._metrics.database_up.set(self._health.database_up)
            self._postpone(due, self._backoff, error)
            return {}

    def _postpone(self, partitions: Sequence[TopicPartition], backoff: Backoff, cause: Exception) -> None:
        self._metrics.retries.labels("claim").inc()
        wait = backoff.next()
        log.warning(
            "claim_postponed", partitions=names_of(partitions), seconds=round(wait, 2), cause=str(cause)
        )
        for partition in partitions:  # the client fetches on from where it stood: a lane would take that
            self.lanes.pop(partition, None)
        self.add(partitions, wait)

    async def _claim(self, due: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        found, claims = await self._claiming.claim(due)
        self._claims |= claims
        # else PostgreSQL was not asked
        if any(isinstance(state, PartitionState) for state in found.values()):
            self._health.database_up = True
            self._metrics.database_up.set(1)
        found = await self._claiming.look_again(found, claims)
        self._backoff.reset()
        self._wait_for_leaders(found)
        starts = {}
        for name in due:
            state = found.get(name)
            if state is None:  # the topic is gone, or is just being made
                self._pending[name] = self._clock.monotonic() + self._settings.check_topics
            elif isinstance(state, PartitionState):
                self._pending.pop(name, None)
                start = await self._place(name, claims[name], state) if name in claims else None
                if start is not None:
                    starts[name] = start
        self._count()
        return starts

    def _wait_for_leaders(self, found: Inspected) -> None:
        """Ask again later for those of which no broker answers; the others flow."""
        silent = {name: state for name, state in found.items() if isinstance(state, SourceUnavailable)}
        if silent:
            self._postpone(list(silent), self._no_answer, next(iter(silent.values())))
        else:
            self._no_answer.reset()

    async def _place(self, name: TopicPartition, claim: Claim, state: PartitionState) -> int | None:
        if self._replaced.pop(name, None) == claim.ref.topic_id:
            self._stop(
                name,
                f"the log holds other records below the stored position {claim.position} than were ingested: "
                "it was truncated and grew again. " + TRUNCATED,
            )
            return None
        start = place(claim.position, state, self._settings.start)
        if isinstance(start, Loss):
            if not start.accepted(self._settings.accepts_loss(name)):
                self._stop(name, start.explanation)
                return None
            claim = await self._pass_over(name, claim, start)
            start = start.next
        suspect = claim.attempts >= _SUSPECT
        lane = self.lanes[name] = Lane(
            name,
            claim,
            next=start,
            fence=claim.position,
            end=state.high,
            position=start,
            leader_epoch=claim.leader_epoch,
            suspect_below=min(start + 3 * self._settings.batch.records, state.high) if suspect else 0,
        )
        if suspect:
            log.warning("partition_suspected", partition=name_of(name), offset=start, attempts=claim.attempts)
        self._metrics.started(lane)
        log.info("partition_started", partition=name_of(name), offset=start, epoch=claim.epoch)
        return max(lane.resume, state.low)

    async def _pass_over(self, name: TopicPartition, claim: Claim, loss: Loss) -> Claim:
        width = loss.next - loss.first
        if width:
            log.warning(
                "loss_accepted", partitions=name_of(name), reason=loss.reason, detail=loss.explanation
            )
        claim = self._claims[name] = await self._sink.skip(claim, loss.first, loss.next, loss.reason)
        self._metrics.lost_offsets.labels(name.topic, str(name.partition)).inc(width)
        return claim

    def replaced(self, name: TopicPartition) -> None:
        """The log of a lane is not the one that was ingested. The next claim says whether it is another
        topic's; a log of the same topic was truncated, and its partition stops.
        """
        if name in self.lanes:
            self._replaced[name] = self.lanes[name].claim.ref.topic_id

    def stop(self, name: TopicPartition, why: str) -> None:
        """Take nothing more of a lane, until it is assigned again."""
        if name in self.lanes:
            self._stop(name, why)
            self._count()

    def _stop(self, name: TopicPartition, why: str) -> None:
        self.lanes.pop(name, None)
        self._pending.pop(name, None)
        self._stopped[name] = why
        self._metrics.partition_stopped.labels(name.topic, str(name.partition)).set(1)
        log.error(
            "partition_stopped",
            partition=name_of(name),
            why=why,
        )

    async def changed(self) -> list[TopicPartition]:
        """Now and then ask the broker where lanes end, and which of them belong to a topic that was made
        anew.
        """
        if not self.lanes or self._clock.monotonic() - self._checked < self._settings.check_topics:
            return []
        self._checked = self._clock.monotonic()
        try:
            states = await self._source.inspect(list(self.lanes))
        except SourceUnavailable as error:
            log.warning("topics_not_checked", cause=str(error))
            return []
        changed = []
        for name, lane in self.lanes.items():
            state = states.get(name)
            if isinstance(state, SourceUnavailable):
                log.warning("topics_not_checked", partitions=name_of(name), cause=str(state))
            elif state is None or state.topic_id != lane.claim.ref.topic_id:
                changed.append(name)
            else:
                lane.end = state.high
                self._metrics.placed(lane)
        if changed:
            log.warning("topic_changed", partitions=names_of(changed))
        return changed

    def _count(self) -> None:
        self._metrics.partitions.labels("assigned").set(len(self.lanes))
        self._metrics.partitions.labels("pending").set(len(self._pending))
        self._metrics.partitions.labels("stopped").set(len(self._stopped))
        self._health.stopped = tuple(name_of(name) for name in self._stopped)
