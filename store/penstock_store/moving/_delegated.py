"""A store that asks another one for everything but appends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_store._common import EVERYTHING
from penstock_store._consuming import Consuming
from penstock_store.checkpoint_records import Batch, CheckpointRecords
from penstock_store.contract import Page, QueryOptions
from penstock_store.store_contract import Capability, EventStore, Snapshot, StoreMetrics

__all__ = ["Delegated"]


class Delegated(Consuming):
    """What is asked is answered by `_truth`, which may be replaced while nothing is under way."""

    def __init__(self, truth: EventStore) -> None:
        self._truth = truth

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the store that is the truth."""
        return self._truth.capabilities

    async def get_metrics(self) -> StoreMetrics:
        """The truth's."""
        return await self._truth.get_metrics()

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        """See `EventReader.get_events`."""
        return await self._truth.get_events(options)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """See `EventReader.get_event`."""
        return await self._truth.get_event(event_id)

    async def get_events_by_correlation(self, correlation_id: str) -> list[RecordedEvent]:
        """See `EventReader.get_events_by_correlation`."""
        return await self._truth.get_events_by_correlation(correlation_id)

    def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.stream`."""
        return self._truth.stream(options)

    def stream_since(
        self, start: int | datetime, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.stream_since`."""
        return self._truth.stream_since(start, options)

    def subscribe(
        self, after: int = 0, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.subscribe`. One that is open goes on with the old store after a switch: end it and
        subscribe again.
        """
        return self._truth.subscribe(after, options)

    def batches(self, after: int = 0, options: QueryOptions = EVERYTHING) -> AsyncGenerator[Batch, None]:
        """See `subscribe`."""
        return self._truth.batches(after, options)

    def checkpoint_records(self) -> CheckpointRecords:
        """The truth's. Checkpoints are not mirrored."""
        return self._truth.checkpoint_records()

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool:
        """See `EventStore.create_snapshot`. Snapshots are not mirrored: they are made again."""
        return await self._truth.create_snapshot(key, state, sequence=sequence, state_version=state_version)

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """See `EventStore.get_snapshot`."""
        return await self._truth.get_snapshot(key, state_version=state_version)
