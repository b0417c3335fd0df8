"""Appends to one entity's stream, whose revision makes them safe: what is known of it is read first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final
from uuid import UUID

import structlog

from penstock_store.appending import AppendOutcome, AppendResult, Key, Known, Prepared, fresh_places
from penstock_store.kurrentdb._client import KurrentClient, RevisionMoved
from penstock_store.kurrentdb._mapping import Unreadable, entity_stream, new_event, place_of, read_event
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_errors import NotSupported

__all__ = ["Appender"]

_ATTEMPTS: Final = 8  # each one but the last met another append to the same entity
_KEPT: Final = 100_000  # keys remembered, of all entities together; an entity in use is held whole
_log = structlog.get_logger(__name__)


class _Entity:
    """What its stream holds up to `revision`."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.forget()

    def forget(self) -> None:
        self.revision = -1
        self.version = 0
        self.keys: dict[Key, Known] = {}
        self.ids: set[bytes] = set()


class Appender:
    """Remembers the keys of entities appended to lately, so that only what is new of them is read."""

    def __init__(self, client: KurrentClient, settings: KurrentSettings) -> None:
        self._client = client
        self._settings = settings
        self._entities: OrderedDict[Key, _Entity] = OrderedDict()

    async def append(self, prepared: Prepared) -> list[AppendResult]:
        """One result per `prepared.fields`. Raises `NotSupported` for events of several entities."""
        if len({(one.tenant_id, one.entity_id) for one in prepared.fields}) > 1:
            raise NotSupported(
                "KurrentDB appends to one stream at a time, and the batch has events of several entities."
                " Append those of each entity apart, or choose another backend"
            )
        entity = self._entities.setdefault(prepared.entity, _Entity())
        self._entities.move_to_end(prepared.entity)
        async with entity.lock:
            try:
                return await self._append(prepared, entity)
            finally:
                self._shrink()

    async def _append(self, prepared: Prepared, entity: _Entity) -> list[AppendResult]:
        stream = entity_stream(self._settings.category, *prepared.entity)
        events = [new_event(one) for one in prepared.fields]
        for attempt in range(_ATTEMPTS):
            await self._catch_up(stream, entity)
            taken = [one.event_id for one in prepared.fields if one.event_id in entity.ids]
            fresh = fresh_places(prepared, entity.keys, taken, entity.version)
            if fresh:
                try:
                    await self._client.append(stream, [events[place] for place in fresh], entity.revision)
                except RevisionMoved:
                    if attempt:  # not a writer that was quicker: another database, a deleted stream
                        entity.forget()
                    continue
                await self._catch_up(stream, entity)
            return _results(prepared, entity, frozenset(fresh))
        raise StoreUnavailable(
            f"other appends to {stream} were quicker, {_ATTEMPTS} times in a row. Nothing was stored: append"
            " again"
        )

    async def _catch_up(self, stream: str, entity: _Entity) -> None:
        size = self._settings.stream_chunk
        while True:
            found = await self._client.read_stream(stream, entity.revision + 1, limit=size)
            for stored in found:
                entity.revision = stored.stream_position
                try:
                    event = read_event(stored)
                except Unreadable as error:  # its key, if it has one, is unknown
                    _log.warning("event_unreadable", place=place_of(stored), reason=str(error))
                    continue
                entity.version = event.sequence
                entity.ids.add(event.event_id.bytes)
                entity.keys[event.tenant_id, event.idempotency_key] = Known(
                    event.content_hash, event.event_id, event.sequence, event.recorded_at
                )
            if len(found) < size:
                return

    def _shrink(self) -> None:
        held = sum(len(entity.keys) for entity in self._entities.values())
        while held > _KEPT or len(self._entities) > _KEPT:
            _, oldest = self._entities.popitem(last=False)
            held -= len(oldest.keys)


def _results(prepared: Prepared, entity: _Entity, fresh: frozenset[int]) -> list[AppendResult]:
    results = []
    for place, key in enumerate(prepared.keys):
        known = entity.keys.get(key)
        if known is None:
            raise StoreUnavailable(
                "KurrentDB accepted the events and does not show them yet. Append again with the same events"
            )
        results.append(
            AppendResult(
                outcome=AppendOutcome.STORED if place in fresh else AppendOutcome.DUPLICATE,
                event_id=UUID(bytes=known.event_id.bytes),
                sequence=known.sequence,
                recorded_at=known.recorded_at,
            )
        )
    return results
