"""The whole contract of an event store: `EventReader` with appends, snapshots, health and metrics.

What a backend cannot do it leaves out of `capabilities` and refuses with `NotSupported`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar, runtime_checkable

from pydantic import JsonValue

from penstock_schemas import Event
from penstock_store.appending import AppendResult
from penstock_store.breaker import CircuitState
from penstock_store.contract import EventReader, QueryOptions

if TYPE_CHECKING:
    from penstock_store.checkpoint_records import Batch, CheckpointRecords, CheckpointState
    from penstock_store.checkpoints import Checkpoint
    from penstock_store.folding import Fold, Loaded

__all__ = ["UNKNOWN", "Capability", "EventStore", "Health", "Latency", "Snapshot", "StoreMetrics"]

_State = TypeVar("_State")

UNKNOWN: Final = -1
"""A figure of `StoreMetrics` that the backend's server does not tell."""


class Capability(StrEnum):
    """What a store may be able to do beside reading."""

    APPEND = "append"
    EXPECTED_VERSION = "expected_version"
    SUBSCRIBE = "subscribe"
    SNAPSHOTS = "snapshots"
    CHECKPOINTS = "checkpoints"  # named positions of subscriptions, kept by the store
    DURABLE = "durable"  # what was stored is there after a crash
    MANY_WRITERS = "many_writers"  # several processes may append at the same time
    ANY_BATCH = "any_batch"  # a batch of many entities; keys and event ids are unique across entities
    ANY_QUERY = "any_query"  # every filter and order of QueryOptions, and events by their id


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A folded state. Events after `sequence` are not in it."""

    key: str
    state: JsonValue
    sequence: int
    state_version: int
    taken_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`live`: the object itself works, do not restart it. `ready`: calls would be answered now."""

    live: bool
    ready: bool
    detail: str  # why not, or "ok"
    latency_seconds: float  # of the look


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of the calls of one kind. Percentiles: of the latest 1,024 calls, 0 without any. The rest: of all."""

    count: int
    total_seconds: float
    max_seconds: float
    p50_seconds: float = 0.0
    p95_seconds: float = 0.0
    p99_seconds: float = 0.0

    @property
    def mean_seconds(self) -> float:
        """0 where nothing was called yet."""
        return self.total_seconds / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMetrics:
    """What the store holds, and what this object did since it was made."""

    backend: str
    events: int  # held now, or UNKNOWN; postgresql: its planner's estimate for partitions that are not sealed
    storage_bytes: int  # on disk, indexes included, or UNKNOWN; memory: 0
    last_sequence: int
    appended: int
    duplicates: int
    errors: int  # calls that raised
    corrupted: int  # places known to be corrupted
    append_latency: Latency
    query_latency: Latency  # pages and single events; not streams, whose reader sets the pace
    observed_seconds: float
    circuit: CircuitState | None = None  # None: the backend has no server that could be away
    circuit_opened: int = 0  # how often the circuit breaker opened

    @property
    def growth_per_second(self) -> float:
        """Events that this object stored, by second of its life."""
        return self.appended / self.observed_seconds if self.observed_seconds else 0.0


@runtime_checkable
class EventStore(EventReader, Protocol):
    """Everything. Use it as `async with`, or call `initialize` and `close`."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this store can do."""
        ...

    async def append(self, event: Event, *, expected_version: int | None = None) -> AppendResult:
        """Store one event, for good once this returns; `DUPLICATE` where its key is stored, however long ago.

        `expected_version`: the sequence of the newest event of (tenant_id, entity_id), 0 for none; of
        concurrent appends with the same expectation one wins. A repeated call answers `DUPLICATE` whatever
        the version is by now. Raises `WrongExpectedVersion`, `AppendConflict`, `InvalidAppend`,
        `NotSupported`; on `StoreUnavailable` call again with the same event.
        """
        ...

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        """Store all or nothing, in their order, one result per event. With `expected_version` all must be of
        one entity. Raises as `append`.
        """
        ...

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool:
        """Keep the state folded up to `sequence`; False where a newer one is kept under key and version.

        Without a `sequence` it stands at the newest event that a reader by sequence reaches now. That is for
        who knows that the state holds them all, as nobody appends meanwhile: beside writers name the last
        event folded, or what came since is in no state that begins with the snapshot.
        `state_version`: raise it when the meaning of the state changes; each version has its own snapshot.
        Raises `InvalidSnapshot`.
        """
        ...

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """The newest one of that version; None where there is none."""
        ...

    def checkpoint(
        self,
        name: str,
        *,
        state_version: int | None = 1,
        lease: float = 30.0,
        wait: float = 60.0,
        take: bool = False,
        accept_loss: bool = False,
    ) -> Checkpoint:
        """A named, durable position, to be used as `async with`; made where it is not there.

        One owner at a time: while another one is alive this one waits, `wait` seconds at most (`math.inf`
        makes a standby). An owner that is silent for `lease` seconds, or any with `take`, is superseded, and
        saves nothing any more. Entering raises `CheckpointHeld`; `StateVersionDiffers` where the state kept
        is of another version (None takes any); `EventsExpired` where retention dropped what was not read,
        unless `accept_loss`; `NotSupported`.
        """
        ...

    async def get_checkpoint(self, name: str) -> CheckpointState | None:
        """What is kept under a name; None where nothing is. Raises `InvalidCheckpoint` for no name."""
        ...

    async def get_checkpoints(self) -> list[CheckpointState]:
        """All of them, by name."""
        ...

    def checkpoint_records(self) -> CheckpointRecords:
        """How they are kept: what `checkpoint` is made of. Raises `NotSupported`."""
        ...

    def batches(self, after: int = 0, options: QueryOptions = ...) -> AsyncGenerator[Batch, None]:
        """`subscribe` in batches, as they were read; an empty one says that there was no more."""
        ...

    async def load(
        self,
        entity_id: str,
        fold: Fold[_State],
        initial: _State,
        *,
        tenant_id: str = "default",
        name: str | None = None,
        state_version: int = 1,
        snapshot_every: int | None = None,
        accept_loss: bool = False,
    ) -> Loaded[_State]:
        """The entity's events folded by `fold(state, event) -> state` from a copy of `initial`.

        Begins with the newest snapshot of (fold, entity, `state_version`) whose history this is, and takes a
        new one where `snapshot_every` or more events were read; the state must then be JSON. Snapshots
        belong to the fold's `name`, by default its import path: raise `state_version` when what it computes
        changes. Ends where readers end, so that nothing is folded that a late commit could come before.
        Raises `EventsExpired` where retention dropped events after the snapshot, or any without one: some may
        be this entity's. `accept_loss` folds what is there, and `Loaded.expired_through` says so. Raises
        `InvalidSnapshot` and as any read.
        """
        ...

    async def load_correlation(
        self,
        correlation_id: str,
        fold: Fold[_State],
        initial: _State,
        *,
        name: str | None = None,
        state_version: int = 1,
        snapshot_every: int | None = None,
        accept_loss: bool = False,
    ) -> Loaded[_State]:
        """As `load`, of all events of a correlation, by sequence."""
        ...

    async def health_check(self) -> Health:
        """Never raises, and answers within a deadline."""
        ...

    async def get_metrics(self) -> StoreMetrics:
        """Figures of now. Raises as any read."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None: ...
