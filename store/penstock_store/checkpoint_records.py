"""What a backend is asked to keep for checkpoints, and the batches that they read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_store.contract import QueryOptions

__all__ = ["Batch", "CheckpointRecords", "CheckpointState", "Claim", "Follows", "Move"]


class Batch(NamedTuple):
    """Events in order, none where a look found nothing, and the position up to which all was looked at."""

    events: tuple[RecordedEvent, ...]
    passed: int


class Follows(Protocol):
    """Live reading in batches: what `subscribe` is made of."""

    def batches(self, after: int = 0, options: QueryOptions = ...) -> AsyncGenerator[Batch, None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """What is kept under a name."""

    name: str
    sequence: int  # everything up to here is done
    state: JsonValue = None  # what the owner keeps with its position
    state_version: int = 1
    epoch: int  # how often it was claimed
    owner: str | None  # None: nobody goes on from here now
    leased_until: datetime | None  # a silent owner may be superseded then
    accepted: int = 0  # events up to here may be missing: retention had dropped them, and that was accepted
    fault: str | None = None  # why the last owner stopped
    saved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who wants a checkpoint, and on which terms. `lease` is in seconds."""

    name: str
    owner: str
    lease: float
    take: bool  # also from an owner that is alive
    accept_loss: bool
    state_version: int | None  # None: whichever is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An owner's step forward. `state`: JSON text, None: leave it as it is."""

    name: str
    epoch: int
    sequence: int
    lease: float
    state: bytes | None = None
    state_version: int = 1


class CheckpointRecords(Protocol):
    """How a backend keeps checkpoints. Each call is atomic, and may be repeated."""

    async def read(self, name: str) -> CheckpointState | None: ...

    async def all(self) -> list[CheckpointState]:
        """By name."""
        ...

    async def claim(self, claim: Claim) -> CheckpointState:
        """The checkpoint after the call, made where there was none; claimed where `owner` is the claim's."""
        ...

    async def save(self, move: Move) -> bool:
        """False, and nothing saved, where the epoch is another, or the checkpoint stands further on."""
        ...

    async def release(self, name: str, epoch: int, fault: str | None) -> None:
        """Nothing happens where the epoch is another."""
        ...

    async def expired_through(self) -> int:
        """The highest sequence of an event that retention dropped; 0: none was."""
        ...
