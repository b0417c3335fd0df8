"""What can go wrong in the store. `StoreError` is the root; each class says what to do about it.

Those of readers are in `penstock_store.read_errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_store.ingest import PartitionRef

__all__ = [
    "FenceLost",
    "InvalidDsn",
    "MigrationError",
    "PartitionError",
    "ReplayInTheWay",
    "ReplaySuperseded",
    "SinkBroken",
    "SinkError",
    "SinkUnavailable",
    "StoreError",
    "TopicRecreated",
]


class StoreError(Exception):
    """Root of every error that penstock_store raises on purpose."""


class InvalidDsn(StoreError, ValueError):
    """The database URL cannot be used. Write it as postgresql://user:password@host:port/database."""


class MigrationError(StoreError):
    """The schema is not at, nor could be moved to, the revision asked for. It says what to run."""


class PartitionError(StoreError):
    """A partition could not be made, rolled, closed or dropped. `retryable`: the same call may pass later."""

    def __init__(self, message: str, *, retryable: bool = False, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.sqlstate = sqlstate


class SinkError(StoreError):
    """Root of what the ingestion sink raises. What is raised by `write` committed nothing of its batch."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class SinkUnavailable(SinkError):
    """PostgreSQL is away, busy or out of resources. Pause and retry the same batch: no record is at fault."""


class SinkBroken(SinkError):
    """Schema, privileges or login are wrong: every batch would fail. Stop, dead-letter nothing, repair it."""


class FenceLost(SinkError):
    """Another owner has these partitions, or their stored offset is not the one expected. Drop the batch.

    `refs`: the partitions concerned. Give them up, or claim them again and go on from the claim's position.
    """

    def __init__(self, refs: Iterable[PartitionRef]) -> None:
        self.refs = tuple(refs)
        names = ", ".join(f"{ref.topic}[{ref.partition}]" for ref in self.refs)
        super().__init__(
            f"the fence refused a batch for {names}: the claim's epoch or the stored offset differs. "
            "Nothing was written; give the partitions up or claim them again"
        )


class ReplayInTheWay(StoreError):
    """Another replay is at one of the partitions. Wait for it, end it, or take over from it."""

    def __init__(self, run: int, owner: str) -> None:
        super().__init__(
            f"replay {run} ({owner}) is at one of these partitions. Nothing was begun: wait for it "
            "(`penstock replay status`), end it, or take over with --take-over"
        )


class ReplaySuperseded(SinkBroken):
    """A newer replay has taken over partitions of this one, which ends. What was committed stays."""

    def __init__(self, refs: Iterable[PartitionRef]) -> None:
        names = ", ".join(f"{ref.topic}[{ref.partition}]" for ref in refs)
        super().__init__(f"another replay has taken over {names}, and goes on from here. This one ends")


class TopicRecreated(SinkError):
    """A topic has another id than when its offsets were stored: it was deleted and made again.

    `refs`: each partition concerned with the topic id that the store knows; records may be lost. Nothing was
    claimed. Go on without them, or, once someone accepted the loss, call `PostgresSink.adopt`.
    """

    def __init__(self, refs: Mapping[PartitionRef, str]) -> None:
        self.refs = dict(refs)
        names = ", ".join(f"{ref.topic}[{ref.partition}]" for ref in self.refs)
        super().__init__(
            f"the topic of {names} was recreated: its id is not the one whose offsets are stored. "
            "Nothing was claimed; adopt the new topic explicitly to go on from its start"
        )
