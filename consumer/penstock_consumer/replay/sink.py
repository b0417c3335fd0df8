"""The `Sink` of a replay: claims bring the next gap of a partition, releases close one that was read."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from penstock_consumer.interfaces import TopicPartition
from penstock_consumer.replay.course import Course
from penstock_store.errors import FenceLost
from penstock_store.ingest import Batch, BatchPart, Claim, PartitionRef, Rejection, WriteResult
from penstock_store.ingest.replay import ReplaySink

__all__ = ["GapSink"]

log = structlog.get_logger(__name__)


class GapSink:
    """Between the engine and `store`. `written` is told of each batch: offsets, then what they came to."""

    def __init__(
        self, store: ReplaySink, course: Course, written: Callable[[int, WriteResult], None]
    ) -> None:
        self._store = store
        self._course = course
        self._written = written

    async def claim(
        self, refs: Sequence[PartitionRef], met: Sequence[PartitionRef] = ()
    ) -> Mapping[PartitionRef, Claim]:
        """See `Sink`. Without a claim: partitions of which nothing is left to read."""
        claims = await self._store.claim(refs, met)
        found: dict[PartitionRef, Claim] = {}
        for ref, claim in claims.items():
            name = TopicPartition(ref.topic, ref.partition)
            first, end, low = self._course.bounds(name)
            gap = await self._store.next_gap(claim, first, end, low=low)
            if gap is None:
                self._course.done([name])
                await self._store.release([claim])
            else:
                self._course.begin(name, gap.first, gap.next)
                found[ref] = gap.claim
        return found

    async def release(self, claims: Sequence[Claim]) -> None:
        """See `Sink`."""
        for claim in claims:
            await self._close(claim)
        await self._store.release(claims)

    async def _close(self, claim: Claim) -> None:
        """Where a gap was read to its end, account for what follows its last record: offsets that hold none.

        The fence says whether all that was handed over is committed; where it is not, the rest stays a gap
        and is read again.
        """
        reading = self._course.readings.pop(TopicPartition(claim.ref.topic, claim.ref.partition), None)
        if reading is None or not reading.through or reading.handed >= reading.next:
            return
        part = BatchPart(
            claim=claim, expected=reading.handed, first_offset=reading.handed, next_offset=reading.next
        )
        try:
            await self.write(Batch([part]), reject=_nothing_to_reject)
        except FenceLost as lost:
            log.info("gap_not_closed", cause=str(lost))

    async def adopt(self, ref: PartitionRef) -> None:
        """See `Sink`: a claim of an earlier replay, of a topic that was made anew since."""
        await self._store.adopt(ref)

    async def write(
        self, batch: Batch, /, *, reject: Callable[[Sequence[Rejection]], Awaitable[None]]
    ) -> WriteResult:
        """See `Sink`."""
        result = await self._store.write(batch, reject=reject)
        self._written(sum(part.next_offset - part.start for part in batch.parts), result)
        return result

    async def skip(self, claim: Claim, first: int, next_offset: int, reason: str) -> Claim:
        """Never: what the broker lost is no gap that a replay reads."""
        raise FenceLost([claim.ref])


async def _nothing_to_reject(rejections: Sequence[Rejection]) -> None:
    """A batch without rows has none."""
