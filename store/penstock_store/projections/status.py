"""How projections do, from what the store keeps of them: no code of theirs is needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from penstock_store.checkpoint_records import CheckpointState
from penstock_store.contract import QueryOptions
from penstock_store.projections.definition import PREFIX
from penstock_store.projections.runner import newest_sequence
from penstock_store.store_contract import EventStore

__all__ = ["ProjectionStatus", "statuses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """Of one projection, now."""

    name: str
    version: int
    sequence: int  # everything up to here is done
    saved_at: datetime
    owner: str | None  # who runs it; None: nobody
    lag_events: int  # at most: numbers that no event has count too
    lag_seconds: float  # age of the oldest event that is not done; 0: there is none
    fault: str | None  # what stopped it


async def statuses(store: EventStore) -> list[ProjectionStatus]:
    """Of every projection that ever ran on this store; a rebuild under way is `name/rebuild`."""
    newest = await newest_sequence(store)
    kept = await store.get_checkpoints()
    return [await _status(store, one, newest) for one in kept if one.name.startswith(PREFIX)]


async def _status(store: EventStore, kept: CheckpointState, newest: int) -> ProjectionStatus:
    page = await store.get_events(QueryOptions(after_sequence=kept.sequence, limit=1))
    now = datetime.now(UTC)
    waiting = (now - page.events[0].recorded_at).total_seconds() if page.events else 0.0
    owned = kept.leased_until is not None and kept.leased_until > now
    return ProjectionStatus(
        name=kept.name.removeprefix(PREFIX),
        version=kept.state_version,
        sequence=kept.sequence,
        saved_at=kept.saved_at,
        owner=kept.owner if owned else None,
        lag_events=max(newest - kept.sequence, 0) if page.events else 0,
        lag_seconds=max(waiting, 0.0),
        fault=kept.fault,
    )
