"""Checkpoints without a server: the rules, as PostgreSQL's statements say them too, over any place to keep
them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from penstock_store.checkpoint_records import CheckpointState, Claim, Move

__all__ = ["LocalCheckpoints", "decode_checkpoint", "encode_checkpoint"]

Change = Callable[[CheckpointState | None], CheckpointState | None]


def encode_checkpoint(state: CheckpointState) -> bytes:
    """One JSON object; `decode_checkpoint` gives the same back."""
    return json.dumps(asdict(state), default=datetime.isoformat).encode()


def decode_checkpoint(text: bytes) -> CheckpointState:
    """Raises ValueError, TypeError or KeyError for what is no checkpoint."""
    fields = json.loads(text)
    for name in ("leased_until", "saved_at"):
        fields[name] = fields[name] and datetime.fromisoformat(fields[name])
    return CheckpointState(**fields)


class LocalCheckpoints(ABC):
    """Implements `CheckpointRecords` over `_change`."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    @abstractmethod
    async def _change(self, name: str, change: Change) -> CheckpointState | None:
        """Keep what `change` makes of what is kept, atomically; nothing where it answers None. What is kept
        then.
        """

    @abstractmethod
    async def read(self, name: str) -> CheckpointState | None: ...

    @abstractmethod
    async def all(self) -> list[CheckpointState]: ...

    @abstractmethod
    async def expired_through(self) -> int: ...

    async def claim(self, claim: Claim) -> CheckpointState:
        """See `CheckpointRecords.claim`."""
        expired = await self.expired_through()
        kept = await self._change(claim.name, lambda found: _claimed(found, claim, self._clock(), expired))
        assert kept is not None  # noqa: S101  made where it was not there
        return kept

    async def save(self, move: Move) -> bool:
        """See `CheckpointRecords.save`."""
        done = False

        def change(found: CheckpointState | None) -> CheckpointState | None:
            nonlocal done
            if found is None or found.epoch != move.epoch or found.sequence > move.sequence:
                return None
            done = True
            now = self._clock()
            moved = replace(
                found, sequence=move.sequence, leased_until=now + timedelta(seconds=move.lease), saved_at=now
            )
            if move.state is None:
                return moved
            return replace(moved, state=json.loads(move.state), state_version=move.state_version)

        await self._change(move.name, change)
        return done

    async def release(self, name: str, epoch: int, fault: str | None) -> None:
        """See `CheckpointRecords.release`."""

        def change(found: CheckpointState | None) -> CheckpointState | None:
            if found is None or found.epoch != epoch:
                return None
            return replace(found, owner=None, leased_until=None, fault=fault)

        await self._change(name, change)


def _claimed(
    found: CheckpointState | None, claim: Claim, now: datetime, expired: int
) -> CheckpointState | None:
    until = now + timedelta(seconds=claim.lease)
    if found is None:
        return CheckpointState(
            name=claim.name,
            sequence=0,
            state_version=claim.state_version or 1,
            epoch=1,
            owner=claim.owner,
            leased_until=until,
            accepted=expired,
            saved_at=now,
        )
    free = found.leased_until is None or found.leased_until < now or found.owner == claim.owner
    if not (free or claim.take) or claim.state_version not in (None, found.state_version):
        return None
    accepted = expired if claim.accept_loss else found.accepted
    return replace(
        found, epoch=found.epoch + 1, owner=claim.owner, leased_until=until, fault=None, accepted=accepted
    )
