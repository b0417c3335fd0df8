"""Events of another store by COPY, with their sequence and, where partitions allow, their recorded_at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from penstock_schemas import RecordedEvent
from penstock_schemas.fields import EventFields, microseconds
from penstock_store._importing import Imported, KeysTaken, StoodElsewhere
from penstock_store.driver import DRIVER_ERRORS
from penstock_store.errors import SinkBroken, SinkError
from penstock_store.ingest._link import Link
from penstock_store.ingest.rows import COLUMNS, HEADER, TRAILER, copy_chunk, encode_row
from penstock_store.postgresql._failures import WRITE, store_error
from penstock_store.postgresql.reader_settings import ReaderSettings
from penstock_store.read_errors import StoreRefused, StoreUnavailable

__all__ = ["Importer"]

_ATTEMPTS: Final = 5  # a partition that was made ready may be rolled past at once, by other writers
_NOW: Final = datetime.max.replace(tzinfo=UTC)  # the server takes its own clock for what lies ahead
_DEADLINE: Final = 120.0  # seconds for one batch: locks, COPY and the disk

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
_Result = TypeVar("_Result")


class Importer:
    """One connection, made on demand. Every batch is one transaction; one importer works at a time."""

    most_sequence: Final = 2**48 - 1  # what the marks of events in flight can hold

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._link = Link(
            settings.dsn,
            connect_timeout=settings.connect_timeout,
            server_settings={
                "application_name": "penstock-import",
                "timezone": "UTC",
                "synchronous_commit": "on",
                "statement_timeout": str(int(_DEADLINE * 1_000)),
                "idle_in_transaction_session_timeout": str(int(_DEADLINE * 1_000)),
                # A client that vanished is noticed within half a minute: it holds every writer back.
                "tcp_keepalives_idle": "15",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
                "client_connection_check_interval": "5s",
            },
        )
        self._busy = asyncio.Lock()

    async def close(self) -> None:
        """Give the connection back, in bounded time."""
        await self._link.close()

    async def put(self, events: Sequence[RecordedEvent], *, after: int) -> Imported:
        """See `_importing.Importer.put`: as many as go into one partition."""
        rows = [encode_row(EventFields.of(event)) for event in events]
        async with self._busy:
            for _ in range(_ATTEMPTS):
                done = await self._call(lambda: self._batch(events, rows, after), "an import")
                if done is not None:
                    return done
                await self._call(lambda: self._prepare(events[0].recorded_at), "a partition for an import")
        raise StoreUnavailable(
            "no partition of penstock.events could be made ready for an import. Nothing of the batch was"
            " stored: try again, and look at `penstock doctor` where it stays so"
        )

    async def finish(self) -> None:
        """Make today's partition the current one: what is appended next would get a time of the history's
        end. Raises a `StoreError`.
        """
        async with self._busy:
            await self._call(lambda: self._prepare(_NOW), "the partition of today")

    async def _call(self, work: Callable[[], Coroutine[Any, Any, _Result]], doing: str) -> _Result:
        try:
            if not self._link.usable:
                await self._link.connect()
            return await self._link.bounded(work(), _DEADLINE, doing)
        except asyncpg.UniqueViolationError as error:
            raise KeysTaken(str(error)) from error
        except SinkError as error:  # the link's own words: away, or no schema
            self._link.terminate()
            kind = StoreRefused if isinstance(error, SinkBroken) else StoreUnavailable
            raise kind(str(error), sqlstate=error.sqlstate) from error
        except DRIVER_ERRORS as error:
            self._link.terminate()
            raise store_error(error, self._settings.dsn, WRITE) from error

    async def _prepare(self, at: datetime) -> None:
        await self._link.connection.execute("SELECT penstock.prepare_import($1)", at)

    async def _batch(
        self, events: Sequence[RecordedEvent], rows: Sequence[bytes], after: int
    ) -> Imported | None:
        """None: no partition takes the first of them yet."""
        connection = self._link.connection
        async with connection.transaction(isolation="read_committed"):
            opened = await connection.fetchrow(
                "SELECT * FROM penstock.begin_import($1, $2)", after, events[0].recorded_at
            )
            assert opened is not None  # noqa: S101  a function with OUT parameters has one row
            if opened["present"] != after:
                raise StoodElsewhere
            if opened["leaf"] is None:
                return None
            times = _times(events, opened["lower"], opened["upper"], opened["now_"])
            await connection.copy_to_table(
                opened["leaf"],
                schema_name="penstock",
                columns=COLUMNS,
                source=_chunks(events, rows, times),
                format="binary",
            )
            await connection.execute("SELECT penstock.finish_import()")
        kept = sum(time == event.recorded_at for time, event in zip(times, events, strict=False))
        return Imported(len(times), kept)


def _times(
    events: Sequence[RecordedEvent], lower: datetime, upper: datetime, now: datetime
) -> list[datetime]:
    """recorded_at of the first of `events`, up to one that belongs into a later partition. What lies before
    the partition, or in the future, gets the nearest time that is allowed."""
    times = []
    for event in events:
        at = max(min(event.recorded_at, now), lower)
        if at >= upper:
            break
        times.append(at)
    return times


async def _chunks(
    events: Sequence[RecordedEvent], rows: Sequence[bytes], times: Sequence[datetime]
) -> AsyncIterator[bytes]:
    yield HEADER
    start = 0
    for at, same in groupby(times):
        end = start + sum(1 for _ in same)
        yield copy_chunk(rows[start:end], [event.sequence for event in events[start:end]], microseconds(at))
        start = end
    yield TRAILER
