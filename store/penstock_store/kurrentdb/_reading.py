"""Reads of KurrentDB in chunks, each a call with a deadline, and live reading that outlives its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog
from kurrentdbclient import RecordedEvent as Stored

from penstock_schemas import RecordedEvent
from penstock_store._selecting import ahead_of, matches
from penstock_store.contract import OrderBy, QueryOptions, beginning
from penstock_store.kurrentdb._client import KurrentClient
from penstock_store.kurrentdb._mapping import Unreadable, place_of, read_event
from penstock_store.kurrentdb._plan import Filter, Plan, filter_of, plan_of
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_errors import CorruptedEvents, NotSupported

__all__ = ["Reading"]

_FIRST_PAUSE: Final = 0.25  # seconds until a live reader tries again, doubled up to the longest
_LONGEST_PAUSE: Final = 10.0
_log = structlog.get_logger(__name__)


class Reading:
    """The reading half; one client, any number of readers."""

    def __init__(self, client: KurrentClient, settings: KurrentSettings) -> None:
        self._client = client
        self._settings = settings
        self._ours = f"{settings.category}-"
        self.corrupted = 0
        """Places seen that are no events of ours."""

    async def newest(self) -> int:
        """The highest sequence there is; 0 without any event."""
        found = await self._client.read_all(None, Filter(self._ours), limit=1, backwards=True)
        return found[0].commit_position if found else 0

    async def stream(self, options: QueryOptions) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.stream`. Raises `NotSupported`, `CorruptedEvents`."""
        plan = plan_of(options, self._settings.category, system_projections=self._settings.system_projections)
        position = options.position()
        ahead = ahead_of(position) if position is not None else None
        skip, remaining = options.offset, options.limit
        ceiling = await self.newest()
        async with aclosing(self._read(plan, options)) as found:
            async for stored in found:
                if stored.commit_position > ceiling:
                    if options.descending:
                        continue
                    return  # it came after the call
                if _past(stored.commit_position, options):
                    return
                event = self._event(stored, options)
                if event is None or not matches(event, options) or (ahead is not None and not ahead(event)):
                    continue
                if skip:
                    skip -= 1
                    continue
                yield event
                if remaining is not None:
                    remaining -= 1
                    if not remaining:
                        return

    async def _read(self, plan: Plan, options: QueryOptions) -> AsyncGenerator[Stored, None]:
        size = self._settings.stream_chunk
        if plan.stream is None and not options.event_types and options.limit is not None:
            size = min(size, options.limit + options.offset + 1)  # + 1: the one that the read begins with
        position = None if plan.stream is not None else _start(options)
        step = -1 if options.descending else 1
        while True:
            found = await self._chunk(plan, position, size, backwards=options.descending)
            for stored in found:
                if stored.commit_position != position or plan.stream is not None:
                    yield stored
            if not found or (len(found) < size and not plan.links):  # links to nothing are left out
                return
            if plan.stream is None:
                position, size = found[-1].commit_position, self._settings.stream_chunk + 1
            else:
                position = (found[-1].link or found[-1]).stream_position + step
                if position < 0:
                    return

    async def _chunk(self, plan: Plan, position: int | None, size: int, *, backwards: bool) -> list[Stored]:
        if plan.stream is None:
            return await self._client.read_all(position, plan.wanted, limit=size, backwards=backwards)
        return await self._client.read_stream(
            plan.stream, position, limit=size, backwards=backwards, links=plan.links
        )

    def _event(self, stored: Stored, options: QueryOptions) -> RecordedEvent | None:
        if not stored.stream_name.startswith(self._ours):  # matched by its type only, or a link to nothing
            return None
        try:
            return read_event(stored)
        except Unreadable as error:
            self.corrupted += 1
            place = f"{place_of(stored)}: {error}"
            if not options.skip_corrupted:
                raise CorruptedEvents([place]) from error
            _log.warning("event_skipped", place=place)
            return None

    async def subscribe(self, after: int, options: QueryOptions) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.subscribe`. Goes on through an absence of the server."""
        position = max(beginning(after, options), 0)
        remaining, up_to = options.limit, options.up_to_sequence
        base = options.replace(order_by=OrderBy.SEQUENCE, descending=False, cursor=None, offset=0, limit=None)
        wanted = _live_filter(base, self._settings.category)
        pause = _FIRST_PAUSE
        while remaining != 0:
            try:
                async with self._client.follow(position or None, wanted) as items:
                    async for item in items:
                        pause = _FIRST_PAUSE
                        if up_to is not None and item.commit_position > up_to:
                            return
                        if _is_mark(item):
                            position = max(position, item.commit_position)
                            if up_to is not None and position >= up_to:
                                return
                            continue
                        event = self._event(item, base)
                        if event is not None and matches(event, base) and event.sequence > position:
                            position = event.sequence
                            yield event
                            remaining = None if remaining is None else remaining - 1
                            if remaining == 0:
                                return
            except StoreUnavailable as error:
                _log.warning("subscription_waits", cause=str(error), retry_in_seconds=pause)
                if self._client.closed:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _live_filter(options: QueryOptions, category: str) -> Filter:
    if options.correlation_id is not None:
        raise NotSupported(
            "KurrentDB cannot follow one correlation: subscribe without correlation_id, and look at each"
        )
    if options.entity_id is None or options.tenant_id is None:
        plan_of(options, category, system_projections=False)  # refuses what it would refuse to read
        return filter_of(options, category)
    return filter_of(QueryOptions(tenant_id=options.tenant_id, entity_id=options.entity_id), category)


def _is_mark(item: Stored) -> bool:
    return item.is_checkpoint or item.is_caught_up or item.is_fell_behind


def _start(options: QueryOptions) -> int | None:
    """Where a read of everything begins. A cursor and `after_sequence` are positions of events."""
    cursor = options.position()
    if options.descending:
        return None if cursor is None else cursor.sequence
    after = max(options.after_sequence or 0, 0 if cursor is None else cursor.sequence)
    return after or None


def _past(sequence: int, options: QueryOptions) -> bool:
    """Nothing that follows can be asked for."""
    if options.descending:
        return options.after_sequence is not None and sequence <= options.after_sequence
    return options.up_to_sequence is not None and sequence > options.up_to_sequence
