"""`KurrentEventStore`: the part of the contract that KurrentDB can serve; the rest it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from pydantic import JsonValue

from penstock_schemas import Event, RecordedEvent
from penstock_store._common import EVERYTHING, DerivedReads, snapshot_json
from penstock_store._consuming import Consuming
from penstock_store._meter import Meter
from penstock_store.appending import AppendResult, prepare
from penstock_store.contract import Page, QueryOptions
from penstock_store.errors import StoreError
from penstock_store.kurrentdb._append import Appender
from penstock_store.kurrentdb._client import KurrentClient
from penstock_store.kurrentdb._reading import Reading
from penstock_store.kurrentdb._snapshots import Snapshots
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.store_contract import UNKNOWN, Capability, Health, Snapshot, StoreMetrics
from penstock_store.store_errors import NotSupported

__all__ = ["KurrentEventStore"]

_CAPABILITIES: Final = frozenset(
    {
        Capability.APPEND,
        Capability.EXPECTED_VERSION,
        Capability.SUBSCRIBE,
        Capability.SNAPSHOTS,
        Capability.DURABLE,
        Capability.MANY_WRITERS,
    }
)


class KurrentEventStore(DerivedReads, Consuming):
    """Each entity is a stream, `sequence` is the commit position. Any number of processes may append.

    Without ANY_BATCH: a batch is of one entity, and a key or event id is looked for in its entity only.
    Without ANY_QUERY: by sequence, of one entity, one correlation (with the system's projections), or of
    everything with types or a tenant. `client` stands in for the connection in tests.
    """

    def __init__(self, settings: KurrentSettings, client: KurrentClient | None = None) -> None:
        self._settings = settings
        self._client = client or KurrentClient(settings)
        self._appender = Appender(self._client, settings)
        self._reading = Reading(self._client, settings)
        self._snapshots = Snapshots(self._client, settings.category)
        self._meter = Meter()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See the class."""
        return _CAPABILITIES

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def initialize(self) -> None:
        """Connect and read one event. Safe to call again."""
        await self._reading.newest()

    async def close(self) -> None:
        """Give the connection back within a deadline. Safe to call again."""
        await self._client.close()

    async def append(self, event: Event, *, expected_version: int | None = None) -> AppendResult:
        """See `EventStore.append`. Reads what is new in the entity's stream first."""
        return (await self.append_batch([event], expected_version=expected_version))[0]

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        """See `EventStore.append_batch`. Raises `NotSupported` where the events are of several entities."""
        with self._meter.timed("append"):
            prepared = prepare(events, expected_version)
            if not prepared.fields:
                return []
            results = prepared.results(await self._appender.append(prepared))
        self._meter.count(results)
        return results

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        """See `EventReader.get_events`. Raises `NotSupported` for what would read everything."""
        with self._meter.timed("query"):
            return await self._page(options)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """Raises `NotSupported`: KurrentDB finds no event by its id."""
        raise NotSupported(
            f"KurrentDB has no index for event ids, so {event_id} cannot be looked up. Read its entity, or"
            " choose another backend"
        )

    async def get_events_by_correlation(self, correlation_id: str) -> list[RecordedEvent]:
        """See `EventReader`. Needs `system_projections`; they lag a little behind."""
        with self._meter.timed("query"):
            async with aclosing(self.stream(QueryOptions(correlation_id=correlation_id))) as found:
                events = [event async for event in found]
            return sorted(events, key=lambda event: (event.occurred_at, event.sequence))

    def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.stream`. One entity's stream is read from its end that comes first in order."""
        return self._reading.stream(options)

    def subscribe(
        self, after: int = 0, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.subscribe`. A subscription to $all, made again where it ends."""
        return self._reading.subscribe(after, options)

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool:
        """See `EventStore.create_snapshot`."""
        sequence = await self._reading.newest() if sequence is None else sequence
        text = snapshot_json(key, state, sequence, state_version)
        return await self._snapshots.put(key, text, sequence=sequence, state_version=state_version)

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """See `EventStore.get_snapshot`."""
        return await self._snapshots.get(key, state_version)

    async def health_check(self) -> Health:
        """Ready: the server answers a read in time."""
        started = time.perf_counter()
        detail = "ok"
        try:
            async with asyncio.timeout(self._settings.health_timeout):
                await self._reading.newest()
        except TimeoutError:
            detail = (
                f"KurrentDB at {self._settings.address} did not answer within"
                f" {self._settings.health_timeout:g} s"
            )
        except StoreError as error:
            detail = str(error)
        return Health(
            live=True, ready=detail == "ok", detail=detail, latency_seconds=time.perf_counter() - started
        )

    async def get_metrics(self) -> StoreMetrics:
        """See `EventStore.get_metrics`. KurrentDB does not say how many events it holds, nor their size."""
        return self._meter.metrics(
            "kurrentdb",
            events=UNKNOWN,
            storage_bytes=UNKNOWN,
            last_sequence=await self._reading.newest(),
            corrupted=self._reading.corrupted,
        )
