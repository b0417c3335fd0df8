"""Replays as the database knows them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from penstock.replay.database import connected
from penstock_store.ingest.replay import SILENCE

__all__ = ["ReplayStatus", "read_status"]

_STATUS = """
SELECT id, group_id, asked, owner_name, message, started_at, seen_at, ended_at, records, done,
       stored, duplicate, conflict, dead_lettered, tombstone, reopened,
       CASE WHEN state = 'running' AND seen_at < clock_timestamp() - $3::interval THEN 'dead' ELSE state
       END AS state,
       extract(epoch FROM seen_at - started_at)::float8 AS seconds
FROM penstock.replays WHERE $1::bigint IS NULL OR id = $1
ORDER BY id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayStatus:
    """One run; a row of `penstock.replays`."""

    id: int
    group_id: str
    asked: str
    owner_name: str
    message: str | None
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None
    records: int
    """Offsets to be read as it began."""
    done: int
    """Offsets accounted for."""
    stored: int
    duplicate: int
    conflict: int
    dead_lettered: int
    tombstone: int
    reopened: int
    state: str
    """running, finished, stopped, failed; dead: it gave no sign of life for 15 s."""
    seconds: float

    @property
    def rate(self) -> float:
        """Records a second, over the whole run."""
        total = self.stored + self.duplicate + self.conflict + self.dead_lettered + self.tombstone
        return total / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> Mapping[str, object]:
        """For programs."""
        row = {item.name: getattr(self, item.name) for item in fields(self)}
        times = {name: value.isoformat() for name, value in row.items() if isinstance(value, datetime)}
        return {**row, **times, "rate": round(self.rate, 1)}


async def read_status(dsn: str, *, run: int | None, limit: int, seconds: float) -> list[ReplayStatus]:
    """The newest runs first; see `connected` for what is raised."""
    async with connected(dsn, seconds) as connection:
        rows = await connection.fetch(_STATUS, run, limit, SILENCE)
    return [ReplayStatus(**dict(row)) for row in rows]
