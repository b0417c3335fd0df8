"""The partitions that the group gave us, and where each of them stands: pending, flowing or stopped.

Pending: to be claimed in PostgreSQL, which says where to go on. Flowing: a lane. Stopped: the broker does
not have what comes next, and an operator must say that the loss is accepted.
"""

from collections.abc import Iterable, Mapping, Sequence
from random import Random

import structlog

from penstock_consumer.backoff import Backoff
from penstock_consumer.batching import Lane
from penstock_consumer.errors import SourceUnavailable
from penstock_consumer.health import WorkerHealth
from penstock_consumer.interfaces import Clock, PartitionState, Sink, Source, TopicPartition
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.placement import ACCEPT, TRUNCATED, Loss, place
from penstock_consumer.settings import WorkerSettings
from penstock_store.errors import FenceLost, SinkUnavailable, TopicRecreated
from penstock_store.ingest import Claim, PartitionRef

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
        self._backoff = Backoff(random)
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
            self._metrics.retries.labels("claim").inc()
            wait = self._backoff.next()
            log.warning("claim_postponed", partitions=_names(due), seconds=round(wait, 2), cause=str(error))
            for partition in due:  # the client fetches on from where it stood: a lane would take that
                self.lanes.pop(partition, None)
            self.add(due, wait)
            return {}

    async def _claim(self, due: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        states = await self._source.inspect(due)
        refs = {
            PartitionRef(self._source.cluster_id, name.topic, state.topic_id, name.partition): name
            for name, state in states.items()
        }
        claims = await self._claim_refs(refs)
        states = await self._look_again(states, claims)
        self._backoff.reset()
        if refs:  # else PostgreSQL was not asked
            self._health.database_up = True
            self._metrics.database_up.set(1)
        starts = {}
        for name in due:
            if name not in states:  # the topic is gone, or is just being made
                self._pending[name] = self._clock.monotonic() + self._settings.check_topics
                continue
            self._pending.pop(name, None)
            if name in claims:
                start = await self._place(name, claims[name], states[name])
                if start is not None:
                    starts[name] = start
        self._count()
        return starts

    async def _claim_refs(self, refs: Mapping[PartitionRef, TopicPartition]) -> dict[TopicPartition, Claim]:
        try:
            claimed = await self._sink.claim(list(refs))
        except TopicRecreated as error:
            rest = [ref for ref in refs if ref not in error.refs]
            accepted = [ref for ref in error.refs if self._settings.accepts_loss(refs[ref])]
            for ref in error.refs:
                if ref not in accepted:
                    self._stop(
                        refs[ref],
                        "the topic was deleted and made again; what it held and was not ingested is lost. "
                        f"To go on with the new one {ACCEPT}",
                    )
            claimed = {**(await self._sink.claim(rest) if rest else {})}
            if accepted:
                log.warning(
                    "loss_accepted", partitions=_names([refs[ref] for ref in accepted]), reason="recreated"
                )
                for ref in accepted:
                    await self._sink.adopt(ref)
                claimed |= await self._sink.claim(accepted)
        self._claims |= {refs[ref]: claim for ref, claim in claimed.items()}
        return {refs[ref]: claim for ref, claim in claimed.items()}

    async def _look_again(
        self, states: Mapping[TopicPartition, PartitionState], claims: Mapping[TopicPartition, Claim]
    ) -> Mapping[TopicPartition, PartitionState]:
        """Until the claim the owner before us went on, perhaps beyond the end that we were told; from now on
        nobody else moves the position. What is another topic's meanwhile is left out.
        """
        beyond = [name for name, claim in claims.items() if (claim.position or 0) > states[name].high]
        if not beyond:
            return states
        now = await self._source.inspect(beyond)
        kept = {name: state for name, state in states.items() if name not in beyond}
        return kept | {
            name: state for name, state in now.items() if state.topic_id == claims[name].ref.topic_id
        }

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
            log.warning(
                "loss_accepted", partitions=_names([name]), reason=start.reason, detail=start.explanation
            )
            claim = self._claims[name] = await self._sink.skip(claim, start.first, start.next, start.reason)
            self._metrics.lost_offsets.labels(name.topic, str(name.partition)).inc(start.next - start.first)
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
            log.warning("partition_suspected", partition=_name(name), offset=start, attempts=claim.attempts)
        self._metrics.started(lane)
        log.info("partition_started", partition=_name(name), offset=start, epoch=claim.epoch)
        return max(lane.resume, state.low)

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
            partition=_name(name),
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
            if state is None or state.topic_id != lane.claim.ref.topic_id:
                changed.append(name)
            else:
                lane.end = state.high
                self._metrics.placed(lane)
        if changed:
            log.warning("topic_changed", partitions=_names(changed))
        return changed

    def _count(self) -> None:
        self._metrics.partitions.labels("assigned").set(len(self.lanes))
        self._metrics.partitions.labels("pending").set(len(self._pending))
        self._metrics.partitions.labels("stopped").set(len(self._stopped))
        self._health.stopped = tuple(_name(name) for name in self._stopped)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}:{partition.partition}"


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(map(_name, partitions))
