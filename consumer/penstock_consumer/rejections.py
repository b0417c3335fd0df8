"""The bad records of one batch on their way to the dead-letter topic, each once however often the batch is
tried.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from penstock_consumer.batching import PendingBatch
from penstock_consumer.interfaces import DeadLetter, DeadLetterSink, TopicPartition
from penstock_consumer.metrics import WorkerMetrics
from penstock_store.ingest import Outcome, PartitionRef, Rejection

__all__ = ["Rejects"]

log = structlog.get_logger(__name__)

_STORING = "TASK_PUT"


class Rejects:
    """Acknowledged before COMMIT, so that no position passes a record that is nowhere."""

    def __init__(
        self,
        batch: PendingBatch,
        dead_letters: DeadLetterSink,
        conflicts: Literal["dead_letter", "report"],
        metrics: WorkerMetrics,
        refused: Callable[[Iterable[tuple[PartitionRef, int]]], None],
    ) -> None:
        self._batch = batch
        self._dead_letters = dead_letters
        self._conflicts = conflicts
        self._metrics = metrics
        self._note_refused = refused
        self._known: set[tuple[int, int, Outcome]] = set()
        self._owed: Sequence[DeadLetter] = batch.letters

    async def send_owed(self) -> None:
        """Those that never became events, and those that an earlier attempt could not send: before a
        transaction is open, which holds up readers. Raises `DeadLettersUnavailable`.
        """
        await self._send(self._owed)
        self._owed = ()

    async def send_rejected(self, rejections: Sequence[Rejection]) -> None:
        """Those that PostgreSQL will not hold; the sink awaits this inside its transaction. Raises
        `DeadLettersUnavailable`, once for the same ones: then `send_owed` has to bring them first.
        """
        new = [found for found in rejections if (found.part, found.offset, found.outcome) not in self._known]
        # Before anything is sent: it raises where it is hardly the records' fault.
        parts = self._batch.rows.parts
        self._note_refused(
            (parts[found.part].claim.ref, found.offset)
            for found in new
            if found.outcome is Outcome.DEAD_LETTERED
        )
        self._report_conflicts(new)
        wanted = {
            (found.part, found.offset): found
            for found in new
            if found.outcome is not Outcome.CONFLICT or self._conflicts == "dead_letter"
        }
        records = self._batch.find(wanted.keys())
        self._owed = [
            DeadLetter(records[at], _STORING, found.reason, found.message, _class_name(found))
            for at, found in wanted.items()
        ]
        self._known.update((found.part, found.offset, found.outcome) for found in new)
        await self.send_owed()

    def _report_conflicts(self, rejections: Sequence[Rejection]) -> None:
        conflicts = [found for found in rejections if found.outcome is Outcome.CONFLICT]
        if conflicts:
            first = conflicts[0]
            lane = self._batch.lanes[first.part]
            log.warning(
                "conflicts",
                count=len(conflicts),
                first=f"{lane.partition.topic}:{lane.partition.partition}@{first.offset}",
                reason=first.reason,
                policy=self._conflicts,
            )

    async def _send(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        ids = {lane.partition: lane.claim.ref.topic_id for lane in self._batch.lanes}
        await self._dead_letters.send(
            [replace(letter, topic_id=ids.get(_lane(letter), "")) for letter in letters]
        )
        for letter in letters:
            self._metrics.dead_letters.labels(letter.record.topic(), letter.reason).inc()
        first = letters[0]
        log.warning(
            "dead_letters",
            count=len(letters),
            first=f"{first.record.topic()}:{first.record.partition()}@{first.record.offset()}",
            reason=first.reason,
            message=first.message,
        )


def _lane(letter: DeadLetter) -> TopicPartition:
    return TopicPartition(letter.record.topic(), letter.record.partition())


def _class_name(rejection: Rejection) -> str:
    return f"penstock_store.ingest.{'Conflict' if rejection.outcome is Outcome.CONFLICT else 'RowRefused'}"
