"""Checkpoints in `penstock.checkpoints`: each rule is one statement."""

from __future__ import annotations

import json
from typing import Any, Final

import asyncpg

from penstock_store.checkpoint_records import CheckpointState, Claim, Move
from penstock_store.postgresql._pool import Pool

__all__ = ["FENCE", "STEP", "PostgresCheckpoints"]

_COLUMNS: Final = (
    "name, sequence, state, state_version, epoch, owner, leased_until, accepted, fault, saved_at"
)
_EXPIRED: Final = (
    "SELECT coalesce(max(last_sequence), 0)::bigint FROM penstock.partitions WHERE state = 'dropped'"
)
# A repeat after a lost answer finds its own name as the owner, and claims again.
_CLAIM: Final = f"""
INSERT INTO penstock.checkpoints AS c (name, state_version, sequence, owner, leased_until, accepted)
VALUES ($1, coalesce($6, 1), 0, $2, clock_timestamp() + make_interval(secs => $3), ({_EXPIRED}))
ON CONFLICT (name) DO UPDATE
    SET epoch = c.epoch + 1, owner = EXCLUDED.owner, leased_until = EXCLUDED.leased_until, fault = NULL,
        accepted = CASE WHEN $5 THEN EXCLUDED.accepted ELSE c.accepted END
    WHERE (c.leased_until IS NULL OR c.leased_until < clock_timestamp() OR c.owner = EXCLUDED.owner OR $4)
      AND ($6::integer IS NULL OR c.state_version = $6)
RETURNING {_COLUMNS}
"""
# Whose epoch is another waits here for the owner's transaction, and then moves nothing.
FENCE: Final = """
UPDATE penstock.checkpoints
SET sequence = $3, saved_at = clock_timestamp(), leased_until = clock_timestamp() + make_interval(secs => $4)
WHERE name = $1 AND epoch = $2 AND sequence <= $3
RETURNING sequence
"""
# For what must not be done twice: an attempt lost at its COMMIT may end after the look whether it was done.
STEP: Final = FENCE.replace("sequence <= $3", "sequence < $3")
_SAVE_STATE: Final = """
UPDATE penstock.checkpoints
SET sequence = $3, saved_at = clock_timestamp(), leased_until = clock_timestamp() + make_interval(secs => $4),
    state = $5, state_version = $6
WHERE name = $1 AND epoch = $2 AND sequence <= $3
RETURNING sequence
"""
_RELEASE: Final = """
UPDATE penstock.checkpoints SET owner = NULL, leased_until = NULL, fault = $3 WHERE name = $1 AND epoch = $2
"""


class PostgresCheckpoints:
    """Implements `CheckpointRecords`."""

    def __init__(self, reads: Pool, writes: Pool) -> None:
        self._reads = reads
        self._writes = writes

    async def read(self, name: str) -> CheckpointState | None:
        """See `CheckpointRecords.read`."""
        rows = await self._reads.fetch(
            f"SELECT {_COLUMNS} FROM penstock.checkpoints WHERE name = $1", (name,)
        )
        return _state(rows[0]) if rows else None

    async def all(self) -> list[CheckpointState]:
        """See `CheckpointRecords.all`."""
        rows = await self._reads.fetch(f"SELECT {_COLUMNS} FROM penstock.checkpoints ORDER BY name")
        return [_state(row) for row in rows]

    async def claim(self, claim: Claim) -> CheckpointState:
        """See `CheckpointRecords.claim`."""
        values = (
            claim.name, claim.owner, claim.lease, claim.take, claim.accept_loss, claim.state_version,
        )  # fmt: skip
        while True:
            rows = await self._writes.fetch(_CLAIM, values)
            if rows:
                return _state(rows[0])
            held = await self._writes.fetch(
                f"SELECT {_COLUMNS} FROM penstock.checkpoints WHERE name = $1", (claim.name,)
            )
            if held:  # else it was deleted a moment ago
                return _state(held[0])

    async def save(self, move: Move) -> bool:
        """See `CheckpointRecords.save`."""
        values: list[Any] = [move.name, move.epoch, move.sequence, move.lease]
        if move.state is None:
            return bool(await self._writes.fetch(FENCE, values))
        return bool(await self._writes.fetch(_SAVE_STATE, [*values, move.state.decode(), move.state_version]))

    async def release(self, name: str, epoch: int, fault: str | None) -> None:
        """See `CheckpointRecords.release`."""
        await self._writes.fetch(_RELEASE, (name, epoch, fault))

    async def expired_through(self) -> int:
        """See `CheckpointRecords.expired_through`."""
        expired: int = (await self._reads.fetch(_EXPIRED))[0][0]
        return expired


def _state(row: asyncpg.Record) -> CheckpointState:
    fields = dict(row)
    if fields["state"] is not None:
        fields["state"] = json.loads(fields["state"])
    return CheckpointState(**fields)
