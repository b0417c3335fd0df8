"""The whole contract of an event store: `EventReader` with appends, snapshots, health and metrics.

What a backend cannot do it leaves out of `capabilities` and refuses with `NotSupported`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from pydantic import JsonValue

from penstock_schemas import Event
from penstock_store.appending import AppendResult
from penstock_store.breaker import CircuitState
from penstock_store.contract import EventReader

__all__ = ["Capability", "EventStore", "Health", "Latency", "Snapshot", "StoreMetrics"]


class Capability(StrEnum):
    """What a store may be able to do beside reading."""

    APPEND = "append"
    EXPECTED_VERSION = "expected_version"
    SUBSCRIBE = "subscribe"
    SNAPSHOTS = "snapshots"
    DURABLE = "durable"  # what was stored is there after a crash
    MANY_WRITERS = "many_writers"  # several processes may append at the same time


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
    events: int  # held now; postgresql: its planner's estimate for partitions that are not sealed
    storage_bytes: int  # on disk, indexes included; memory: 0
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
        self, key: str, state: JsonValue, *, sequence: int, state_version: int = 1
    ) -> bool:
        """Keep the state folded up to `sequence`; False where a newer one is kept under key and version.

        `state_version`: raise it when the meaning of the state changes; each version has its own snapshot.
        Raises `InvalidSnapshot`.
        """
        ...

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """The newest one of that version; None where there is none."""
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
