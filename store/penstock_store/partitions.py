"""Partitions of `penstock.events`: made ahead, rolled forward, closed, dropped.

Thin calls of the owner's SQL functions (`migrations/sql/0001_partitions.sql`), which hold the rules. Each
takes an asyncpg connection outside of a transaction, because creation and roll must commit apart. Raises
PartitionError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import asyncpg

from penstock_store.errors import PartitionError

__all__ = [
    "Partition",
    "PartitionState",
    "clock",
    "close",
    "drop",
    "ensure_ahead",
    "list_partitions",
    "make_current",
]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
# Lost connections, serialisation, resources, locks, interventions: the same call may pass later.
_LATER = frozenset({"08", "40", "53", "55", "57"})
_MADE_AT_ONCE = 20


class PartitionState(StrEnum):
    """A partition only goes down this list."""

    FUTURE = "future"
    CURRENT = "current"
    CLOSED = "closed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A row of `penstock.partitions`. Figures are None until `close` has run; times are `recorded_at` unless
    named.
    """

    name: str
    lower: datetime
    upper: datetime
    """Exclusive."""
    state: PartitionState
    indexes: tuple[str, ...]
    created_at: datetime
    closed_at: datetime | None
    sealed_at: datetime | None
    dropped_at: datetime | None
    rows: int | None
    first_sequence: int | None
    last_sequence: int | None
    first_recorded_at: datetime | None
    last_recorded_at: datetime | None
    first_occurred_at: datetime | None
    last_occurred_at: datetime | None


_COLUMNS = tuple(Partition.__dataclass_fields__)


async def list_partitions(connection: Connection) -> list[Partition]:
    """All that ever were, dropped ones included, oldest first."""
    rows = await _call(
        connection.fetch(f"SELECT {', '.join(_COLUMNS)} FROM penstock.partitions ORDER BY lower"), "listed"
    )
    return [
        Partition(**{**row, "state": PartitionState(row["state"]), "indexes": tuple(row["indexes"])})
        for row in rows
    ]


async def clock(connection: Connection) -> datetime:
    """The store's own time, by which partitions are made and expire."""
    now: datetime = await _call(connection.fetchval("SELECT clock_timestamp()"), "timed")
    return now


async def ensure_ahead(connection: Connection, ahead: int) -> Sequence[str]:
    """Make the partition of now and `ahead` (0 to 400) after it; returns their names."""
    names: Sequence[str] = []
    # A transaction locks every table and index that it makes, and the server's lock table is shared by all.
    for goal in (*range(_MADE_AT_ONCE, ahead, _MADE_AT_ONCE), ahead):
        names = await _call(connection.fetchval("SELECT penstock.ensure_partitions($1)", goal), "made ahead")
    return names


async def make_current(connection: Connection) -> bool:
    """Roll to the partition of now where another one is current, making it where it is missing.

    False: nothing to do, or another session is at it.
    """
    outcome = await _roll(connection)
    if outcome == "missing":
        await ensure_ahead(connection, 1)
        outcome = await _roll(connection)
    return outcome == "rolled"


async def close(connection: Connection, name: str) -> bool:
    """Write down a closed partition's figures and bound it by CHECK constraints, which prune reads. One scan.

    False where that was done before.
    """
    done: bool = await _call(connection.fetchval("SELECT penstock.close_partition($1)", name), "closed")
    validated: bool = await _call(
        connection.fetchval("SELECT penstock.validate_partition($1)", name), "validated"
    )
    return done or validated


async def drop(connection: Connection, name: str) -> int:
    """Drop a closed partition for good; returns how many events went with it (outcome: expired).

    Retryable where a long read holds the table: it waits two seconds, so that writers wait no longer.
    """
    rows: int = await _call(connection.fetchval("SELECT penstock.drop_partition($1)", name), "dropped")
    return rows


async def _roll(connection: Connection) -> str:
    outcome: str = await _call(connection.fetchval("SELECT penstock.roll()"), "rolled")
    return outcome


async def _call(work: Any, done: str) -> Any:
    try:
        return await work
    except asyncpg.PostgresError as error:
        hint = getattr(error, "hint", None)
        raise PartitionError(
            f"partitions could not be {done}: {str(error).splitlines()[0]}" + (f". {hint}" if hint else ""),
            retryable=(error.sqlstate or "")[:2] in _LATER,
            sqlstate=error.sqlstate,
        ) from error
