"""Words of ingestion: which Kafka partition, who owns it, what became of a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

__all__ = ["FEWEST_BAD", "Claim", "Outcome", "PartitionRef", "Rejection", "ReplayRun", "WriteResult"]

FEWEST_BAD: Final = 500
"""Bad records before their share says anything: a handful of them in a quiet topic is ordinary."""


class PartitionRef(NamedTuple):
    """One Kafka partition. `topic_id` tells a topic from its namesake that was deleted before."""

    cluster_id: str
    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to write a partition's records, until another claim raises the epoch."""

    group_id: str
    ref: PartitionRef
    epoch: int
    position: int | None
    """The next offset wanted, as stored; None where nothing of this partition was ever stored."""
    leader_epoch: int | None = None
    """Kafka's, of the record before `position`; None where it is not known."""
    attempts: int = 1
    """Claims in a row, this one included, since the offset last moved or was released in good order: more
    than a few mean that a record ends the worker's process."""


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """A replay that writes: into whose books, and its row in `penstock.replays`."""

    books: str
    """The group that it replays for; its claims stand under another."""
    run: int


class Outcome(StrEnum):
    """What became of a record; each has exactly one."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DEAD_LETTERED = "dead_lettered"
    TOMBSTONE = "tombstone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A record that the store will not hold: a conflict, or a row that PostgreSQL refuses."""

    part: int
    """Index into the batch's parts."""
    offset: int
    outcome: Outcome
    reason: str
    """Fixed word for metrics: key_conflict, event_id_taken or row_refused."""
    message: str
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a committed batch came to."""

    counts: tuple[Mapping[Outcome, int], ...]
    """By part of the batch; every outcome is present."""
    partition: str | None
    """The partition of `penstock.events` that was current; None in an answer that was found already
    committed.
    """
    first_sequence: int | None = None
    last_sequence: int | None = None
    """Of the rows stored; None where none was, or where the batch was found already committed."""
    already_committed: bool = False
    """The batch had been committed by an earlier call whose answer was lost; `counts` are those of then."""

    def total(self, outcome: Outcome) -> int:
        """Over all parts."""
        return sum(counts[outcome] for counts in self.counts)
