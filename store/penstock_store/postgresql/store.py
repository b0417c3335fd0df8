"""`PostgresStore`: the whole contract on PostgreSQL: the reader with appends, snapshots, health, metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue

from penstock_schemas import Event, RecordedEvent
from penstock_store._common import EVERYTHING, snapshot_json
from penstock_store._consuming import Consuming
from penstock_store._meter import Meter
from penstock_store._upkeep import Upkeep
from penstock_store.appending import AppendResult, prepare
from penstock_store.backends import takes
from penstock_store.checkpoint_records import CheckpointRecords
from penstock_store.contract import Page, QueryOptions
from penstock_store.errors import StoreError
from penstock_store.postgresql._append import Appender
from penstock_store.postgresql._checkpoints import PostgresCheckpoints
from penstock_store.postgresql._failures import WRITE
from penstock_store.postgresql._import import Importer
from penstock_store.postgresql._pool import Pool
from penstock_store.postgresql._tables import Tables
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings
from penstock_store.store_contract import Capability, Health, Snapshot, StoreMetrics

__all__ = ["PostgresStore", "StoreSettings", "create"]

_PUT: Final = """
INSERT INTO penstock.snapshots AS s (key, state_version, sequence, state) VALUES ($1, $2, $3, $4)
ON CONFLICT (key, state_version) DO UPDATE
    SET sequence = EXCLUDED.sequence, state = EXCLUDED.state, taken_at = EXCLUDED.taken_at
    WHERE s.sequence <= EXCLUDED.sequence
RETURNING s.sequence
"""
_GET: Final = """
SELECT sequence, state, taken_at FROM penstock.snapshots WHERE key = $1 AND state_version = $2
"""
_FIGURES: Final = """
SELECT coalesce(sum(coalesce(p.rows, greatest(c.reltuples, 0)::bigint)), 0)::bigint AS events,
       coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS storage_bytes,
       penstock.safe_sequence() AS mark
FROM penstock.partitions p JOIN pg_class c ON c.relname = p.name AND c.relnamespace = 'penstock'::regnamespace
WHERE p.state <> 'dropped'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings(ReaderSettings):
    """As `ReaderSettings`. The login needs the role `penstock_writer`; `pool_size` counts twice: reads and
    writes have connections of their own.
    """

    application_name: str = "penstock-store"
    health_timeout: float = 5.0

    def write_options(self) -> _WriteSettings:
        """The settings of the connections that write."""
        names = ReaderSettings.__dataclass_fields__
        return _WriteSettings(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class _WriteSettings(ReaderSettings):
    def connection_options(self) -> dict[str, Any]:
        options = ReaderSettings.connection_options(self)
        options["server_settings"] |= {
            "default_transaction_read_only": "off",
            "synchronous_commit": "on",  # "stored" means on disk, whatever the server's default
            "timezone": "UTC",
        }
        return options


class PostgresStore(PostgresEventStore, Consuming):
    """Implements `EventStore`. Any number of tasks, and of processes, may append at the same time.

    A version is expected of appends among each other: what a Kafka worker writes to the same entity at the
    same moment is not kept out.
    """

    def __init__(self, settings: StoreSettings | str) -> None:
        chosen = StoreSettings(dsn=settings) if isinstance(settings, str) else settings
        super().__init__(chosen)
        self._chosen = chosen
        self._writes = Pool(chosen.write_options(), self._pool.breaker, WRITE)  # one server
        self._appender = Appender(self._writes)
        self._checkpoints = PostgresCheckpoints(self._pool, self._writes)
        self._meter = Meter()
        self._upkeep = Upkeep(self._publish, self._appender.make_current)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything."""
        return frozenset(Capability)

    async def close(self) -> None:
        """Give every connection back within a deadline. Safe to call again."""
        async with AsyncExitStack() as parts:  # all of them, though close() is cancelled at one
            parts.push_async_callback(super().close)
            parts.push_async_callback(self._writes.close)
            await self._upkeep.settle(self._chosen.close_timeout)

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
            async with self._writes.call():
                settled, roll_due = await self._appender.append(prepared, self._upkeep.make_current)
            results = prepared.results(settled)
        self._meter.count(results)
        self._upkeep.ask(roll_due=roll_due)
        return results

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        """See `EventReader.get_events`."""
        with self._meter.timed("query"):
            return await super().get_events(options)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """See `EventReader.get_event`."""
        with self._meter.timed("query"):
            return await super().get_event(event_id)

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool:
        """See `EventStore.create_snapshot`."""
        sequence = await self._newest_safe() if sequence is None else sequence
        text = snapshot_json(key, state, sequence, state_version).decode()
        return bool(await self._writes.fetch(_PUT, (key, state_version, sequence, text)))

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """See `EventStore.get_snapshot`."""
        rows = await self._pool.fetch(_GET, (key, state_version))
        if not rows:
            return None
        sequence, state, taken_at = rows[0]
        return Snapshot(
            key=key,
            state=json.loads(state),
            sequence=sequence,
            state_version=state_version,
            taken_at=taken_at,
        )

    def importer(self) -> Importer:
        """What takes events of another store over with their sequence; the caller closes it."""
        return Importer(self._chosen.write_options())

    def tables(self) -> Tables:
        """A session for the tables of one projection; the caller closes it."""
        return Tables(self._chosen.write_options())

    def checkpoint_records(self) -> CheckpointRecords:
        """In `penstock.checkpoints`."""
        return self._checkpoints

    async def health_check(self) -> Health:
        """Ready: the server answers a read in time and holds the schema."""
        started = time.perf_counter()
        detail = "ok"
        try:
            async with asyncio.timeout(self._chosen.health_timeout):
                await self.safe_sequence()
        except TimeoutError:
            detail = f"PostgreSQL did not answer within {self._chosen.health_timeout:g} s"
        except StoreError as error:
            detail = str(error)
        return Health(
            live=True, ready=detail == "ok", detail=detail, latency_seconds=time.perf_counter() - started
        )

    async def get_metrics(self) -> StoreMetrics:
        """See `EventStore.get_metrics`."""
        events, storage_bytes, mark = (await self._pool.fetch(_FIGURES))[0]
        return self._meter.metrics(
            "postgresql",
            events=events,
            storage_bytes=storage_bytes,
            last_sequence=mark,
            breaker=self._pool.breaker,
        )

    async def _newest_safe(self) -> int:
        """Of an event, not the mark: numbers that no event has may be given out again after a crash."""
        newest = QueryOptions(descending=True, limit=1, up_to_sequence=await self.safe_sequence())
        found = (await self.get_events(newest)).events
        return found[0].sequence if found else 0

    async def _publish(self) -> None:
        if not self._writes.closed:  # an append that ends after close() asks, too: there is nothing to retry
            await self._appender.publish()


@takes(StoreSettings)
def create(**settings: Any) -> PostgresStore:
    """The entry points `postgresql` and `postgres`; takes the fields of `StoreSettings`."""
    return PostgresStore(StoreSettings(**settings))
