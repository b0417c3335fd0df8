"""`MemoryEventStore`: lists and dictionaries. What it holds ends with the object."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final
from uuid import UUID

from pydantic import JsonValue

from penstock_schemas import Event, RecordedEvent
from penstock_schemas.fields import EventFields
from penstock_store._common import EVERYTHING, LocalReads, snapshot_json
from penstock_store._consuming import Consuming
from penstock_store._local_checkpoints import (
    Change,
    LocalCheckpoints,
    decode_checkpoint,
    encode_checkpoint,
)
from penstock_store._meter import Meter
from penstock_store._recorded import recorded_event
from penstock_store._selecting import ahead_of, matches, order_key, page, page_limit
from penstock_store.appending import AppendOutcome, AppendResult, Known, fresh_places, prepare
from penstock_store.checkpoint_records import CheckpointRecords, CheckpointState
from penstock_store.contract import OrderBy, Page, QueryOptions, an_id
from penstock_store.store_contract import Capability, Health, Snapshot, StoreMetrics

__all__ = ["MemoryEventStore", "MemorySettings"]

_CAPABILITIES: Final = frozenset(
    {
        Capability.APPEND,
        Capability.EXPECTED_VERSION,
        Capability.SUBSCRIBE,
        Capability.SNAPSHOTS,
        Capability.ANY_BATCH,
        Capability.ANY_QUERY,
        Capability.CHECKPOINTS,
    }
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """Nothing to configure but the clock."""

    clock: Callable[[], datetime] = _utc_now


class _Checkpoints(LocalCheckpoints):
    """Encoded, so that nobody's later change of a state gets in."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self._kept: dict[str, bytes] = {}

    async def expired_through(self) -> int:
        return 0  # nothing is ever dropped

    async def read(self, name: str) -> CheckpointState | None:
        return decode_checkpoint(self._kept[name]) if name in self._kept else None

    async def all(self) -> list[CheckpointState]:
        return [decode_checkpoint(self._kept[name]) for name in sorted(self._kept)]

    async def _change(self, name: str, change: Change) -> CheckpointState | None:
        found = await self.read(name)
        changed = change(found)
        if changed is not None:
            self._kept[name] = encode_checkpoint(changed)
        return found if changed is None else changed


class MemoryEventStore(LocalReads, Consuming):
    """Implements `EventStore`. One event loop; not thread-safe."""

    poll_interval = 1.0

    def __init__(self, settings: MemorySettings | None = None) -> None:
        super().__init__()
        self._clock = (settings or MemorySettings()).clock
        self._events: list[RecordedEvent] = []  # the one with sequence n at n - 1
        self._keys: dict[tuple[str, str], Known] = {}
        self._ids: dict[UUID, RecordedEvent] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._snapshots: dict[tuple[str, int], tuple[bytes, Snapshot]] = {}
        self._checkpoints = _Checkpoints(self._clock)
        self._meter = Meter()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything but durability and other writers."""
        return _CAPABILITIES

    async def initialize(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to give back: the events stay with the object."""

    async def append(self, event: Event, *, expected_version: int | None = None) -> AppendResult:
        """See `EventStore.append`."""
        return (await self.append_batch([event], expected_version=expected_version))[0]

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        """See `EventStore.append_batch`."""
        with self._meter.timed("append"):
            prepared = prepare(events, expected_version)
            if not prepared.fields:
                return []
            taken = [one.event_id for one in prepared.fields if UUID(bytes=one.event_id) in self._ids]
            fresh = fresh_places(prepared, self._keys, taken, self._versions.get(prepared.entity, 0))
            now = self._clock()
            for place in fresh:
                self._store(prepared.fields[place], now)
            new = set(fresh)
            results = prepared.results(
                [_result(self._keys[key], place in new) for place, key in enumerate(prepared.keys)]
            )
        self._meter.count(results)
        self._wake()
        return results

    def _store(self, fields: EventFields, now: datetime) -> None:
        event = recorded_event(fields, len(self._events) + 1, now)
        self._events.append(event)
        self._ids[event.event_id] = event
        self._versions[event.tenant_id, event.entity_id] = event.sequence
        self._keys[event.tenant_id, event.idempotency_key] = Known(
            fields.content_hash, event.event_id, event.sequence, now
        )

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        """See `EventReader.get_events`."""
        with self._meter.timed("query"):
            limit = page_limit(options)
            return page(islice(self._select(options), limit + 1), options, limit)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """See `EventReader.get_event`."""
        with self._meter.timed("query"):
            found = self._ids.get(an_id(event_id))
            return None if found is None else _copied(found)

    async def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.stream`."""
        for event in islice(self._select(options), options.limit):
            yield event

    def _select(self, options: QueryOptions) -> Iterator[RecordedEvent]:
        count = len(self._events)  # what is there now
        found: Iterable[RecordedEvent] = (e for e in islice(self._events, count) if matches(e, options))
        if options.order_by is not OrderBy.SEQUENCE or options.descending:
            found = sorted(found, key=order_key(options.order_by), reverse=options.descending)
        position = options.position()
        if position is not None:
            found = filter(ahead_of(position), found)
        return map(_copied, islice(found, options.offset, None))

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool:
        """See `EventStore.create_snapshot`."""
        sequence = await self._last_sequence() if sequence is None else sequence
        text = snapshot_json(key, state, sequence, state_version)
        kept = self._snapshots.get((key, state_version))
        if kept is not None and kept[1].sequence > sequence:
            return False
        snapshot = Snapshot(
            key=key, state=None, sequence=sequence, state_version=state_version, taken_at=self._clock()
        )
        self._snapshots[key, state_version] = text, snapshot
        return True

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """See `EventStore.get_snapshot`."""
        kept = self._snapshots.get((key, state_version))
        if kept is None:
            return None
        text, snapshot = kept
        return Snapshot(
            key=key,
            state=json.loads(text),
            sequence=snapshot.sequence,
            state_version=state_version,
            taken_at=snapshot.taken_at,
        )

    def checkpoint_records(self) -> CheckpointRecords:
        """They end with the object."""
        return self._checkpoints

    async def health_check(self) -> Health:
        """Always well."""
        return Health(live=True, ready=True, detail="ok", latency_seconds=0.0)

    async def get_metrics(self) -> StoreMetrics:
        """See `EventStore.get_metrics`."""
        count = len(self._events)
        return self._meter.metrics("memory", events=count, storage_bytes=0, last_sequence=count)

    async def _last_sequence(self) -> int:
        return len(self._events)


def _copied(event: RecordedEvent) -> RecordedEvent:
    """The reader's own: its documents can be changed."""
    documents = {"payload": deepcopy(event.payload), "metadata": deepcopy(event.metadata)}
    return event.model_copy(update=documents)


def _result(known: Known, stored: bool) -> AppendResult:
    return AppendResult(
        outcome=AppendOutcome.STORED if stored else AppendOutcome.DUPLICATE,
        event_id=known.event_id,
        sequence=known.sequence,
        recorded_at=known.recorded_at,
    )
