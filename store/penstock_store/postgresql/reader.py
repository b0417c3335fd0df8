"""`PostgresEventStore`: reads of `penstock.events` that page, stream and follow, and never skip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import asyncpg
import structlog

from penstock_schemas import RecordedEvent
from penstock_store._common import EVERYTHING, BatchedReads
from penstock_store._cursor import OrderBy
from penstock_store._selecting import page, page_limit
from penstock_store.checkpoint_records import Batch
from penstock_store.contract import Page, QueryOptions, an_id
from penstock_store.postgresql._catalogue import AROUND, catalogue, catalogue_of_id
from penstock_store.postgresql._live import Follow, Hints
from penstock_store.postgresql._pool import Pool
from penstock_store.postgresql._rare import NOT_BY_KEPT_PLANS
from penstock_store.postgresql._rows import events_of
from penstock_store.postgresql._scan import Scan
from penstock_store.postgresql._select import Statement, select_event
from penstock_store.postgresql._windows import Slices, Window, window_around
from penstock_store.postgresql.reader_settings import ReaderSettings
from penstock_store.read_errors import ReadError, StoreUnavailable

__all__ = ["PostgresEventStore"]

_SAFE: Final = "SELECT penstock.safe_sequence()"
# Events of a stream between two turns of the event loop, in which the next chunk comes in: with a single turn
# for each chunk PostgreSQL waited with a full socket, and then the reader for 10 ms.
_TURN: Final = 250
_LONGEST_PAUSE: Final = 10.0  # seconds between a live reader's attempts while the server is away

_log = structlog.get_logger(__name__)


class PostgresEventStore(BatchedReads):
    """The reading half of the store in PostgreSQL; implements `EventReader`. Any number of tasks may share
    one.

    `settings`: a database URL, or `ReaderSettings`. Connections are made when they are first needed.
    """

    def __init__(self, settings: ReaderSettings | str) -> None:
        self._settings = ReaderSettings(dsn=settings) if isinstance(settings, str) else settings
        self._pool = Pool(self._settings)
        self._hints = Hints(self._settings)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def initialize(self) -> None:
        """Connect and check that the store can be read. Safe to call again."""
        await self.safe_sequence()

    async def close(self) -> None:
        """Give every connection back within a deadline. Safe to call again."""
        try:
            await self._hints.close()
        finally:
            await self._pool.close()

    async def safe_sequence(self) -> int:
        """The mark up to which every event is there to see: none can appear at or below it later."""
        rows = await self._pool.fetch(_SAFE)
        mark: int = rows[0][0]
        return mark

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        """One page; see `EventReader`. By ascending sequence it ends at the safe mark."""
        limit = page_limit(options)
        async with self._pool.call():
            rows = await self._rows(options, limit + 1)
        return page(events_of(rows), options, limit)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """The event with this id; None where there is none."""
        async with self._pool.call():
            return await self._find(an_id(event_id))

    async def _find(self, event_id: UUID) -> RecordedEvent | None:
        for window in await self._around(event_id):
            if found := await self._fetch(select_event(event_id, window)):
                return next(events_of(found))
        rows = await self._pool.fetch(*catalogue_of_id(event_id))
        for window in window_around(rows):  # those whose prints have it, and those not sealed: few
            if found := await self._fetch(select_event(event_id, window)):
                return next(events_of(found))
        return None

    async def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        """Every matching event that is there now, in constant memory. No transaction stays open meanwhile.

        Leave early by `contextlib.aclosing`, as for any asynchronous generator.
        """
        scan, _ceiling = await self._scan(options, chunk=self._settings.stream_chunk, limit=options.limit)
        async with aclosing(self._chunks(scan)) as chunks:
            async for rows in chunks:
                while rows:
                    turn, rows[:_TURN] = rows[:_TURN], []
                    for event in events_of(turn):
                        yield event
                    await asyncio.sleep(0)

    async def batches(
        self, after: int = 0, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[Batch, None]:
        """`subscribe` in batches of `stream_chunk`; an empty one says that there was no more. Goes on through
        an absence of the server.
        """
        follow = Follow(options, after)
        pause = self._settings.poll_interval
        async with self._hints.subscription() as woken:
            while not follow.ended:
                woken.clear()  # before looking: what is published meanwhile wakes us again
                try:
                    async with aclosing(self._news(follow)) as news:
                        async for batch in news:
                            yield batch
                    pause = self._settings.poll_interval
                except StoreUnavailable as error:
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    _log.warning("subscription_waits", cause=str(error), retry_in_seconds=pause)
                if not follow.ended:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await woken.wait()

    async def _news(self, follow: Follow) -> AsyncGenerator[Batch, None]:
        """What is there after the follower's position, up to the mark."""
        options = follow.options()
        scan, ceiling = await self._scan(options, chunk=self._settings.stream_chunk, limit=options.limit)
        last = None
        if follow.filtered and scan.looks:
            # Before reading: a number that a crash gives out again meanwhile is above all that is stored now.
            up_to = options.up_to_sequence  # beyond it nothing is looked at
            last = await self._newest(follow.position, ceiling if up_to is None else min(ceiling, up_to))
        async with aclosing(self._chunks(scan)) as chunks:
            async for rows in chunks:
                events = tuple(events_of(rows))
                follow.saw(events)
                yield Batch(events, follow.position)
        follow.passed(None if follow.ended else last, ceiling)
        yield Batch((), follow.position)

    async def _newest(self, after: int, up_to: int) -> int | None:
        """The last sequence stored between the two, whatever the filters; None where there is none."""
        options = QueryOptions(after_sequence=after, up_to_sequence=up_to, descending=True)
        rows = await self._rows(options, 1)
        return rows[0]["sequence"] if rows else None

    async def _rows(self, options: QueryOptions, limit: int) -> list[asyncpg.Record]:
        """The first `limit` of them."""
        scan, _ceiling = await self._scan(options, chunk=limit, limit=limit)
        rows: list[asyncpg.Record] = []
        statement = scan.first() or await self._further(scan)
        while statement is not None:
            more = await self._fetch(statement)
            rows += more
            statement = scan.next(more) or await self._further(scan)
        return rows

    async def _scan(self, options: QueryOptions, *, chunk: int, limit: int | None) -> tuple[Scan, int]:
        rows = await self._pool.fetch(*catalogue(options))
        ceiling: int = rows[0]["ceiling"]
        bounded = options.order_by is OrderBy.SEQUENCE and not options.descending
        slices = Slices(rows, options)
        return Scan(options, slices, ceiling=ceiling if bounded else None, chunk=chunk, limit=limit), ceiling

    async def _further(self, scan: Scan) -> Statement | None:
        """The statement after the scan's last one, where only the catalogue's beginning was asked for."""
        rest = scan.rest()
        if rest is None:
            return None
        rows = await self._pool.fetch(*catalogue(rest, whole=True))
        return scan.go_on(Slices(rows, rest, whole=True))

    async def _chunks(self, scan: Scan) -> AsyncGenerator[list[asyncpg.Record], None]:
        """Chunk after chunk; PostgreSQL reads the next one while this one is made into events and used."""
        statement = scan.first() or await self._further(scan)
        pending = asyncio.create_task(self._fetch(statement)) if statement is not None else None
        try:
            while pending is not None:
                rows = await pending
                statement = scan.next(rows) or await self._further(scan)
                pending = asyncio.create_task(self._fetch(statement)) if statement is not None else None
                await asyncio.sleep(0)  # lets the request go out
                if rows:
                    yield rows
        finally:
            if pending is not None:
                pending.cancel()
                with suppress(asyncio.CancelledError, ReadError):
                    await pending

    async def _around(self, event_id: UUID) -> list[Window]:
        if event_id.version != 7:
            return []
        try:
            made = datetime.fromtimestamp((event_id.int >> 80) / 1_000, UTC)
        except (ValueError, OverflowError):  # 48 bits reach beyond the year 9999
            return []
        return window_around(await self._pool.fetch(AROUND, (made,)))

    async def _fetch(self, statement: Statement) -> list[asyncpg.Record]:
        try:
            return await self._pool.fetch(statement.text, statement.values)
        except ReadError as error:
            if statement.otherwise is None or error.sqlstate not in NOT_BY_KEPT_PLANS:
                raise
        return await self._fetch(statement.otherwise())
