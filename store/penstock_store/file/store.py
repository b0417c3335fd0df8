"""`FileEventStore`: events as lines of JSON in a directory. One writer, many readers."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar
from uuid import UUID

import structlog
from pydantic import JsonValue

from penstock_schemas import Event, RecordedEvent
from penstock_store._common import EVERYTHING, LocalReads, snapshot_json
from penstock_store._consuming import Consuming
from penstock_store._meter import Meter
from penstock_store.appending import AppendResult, prepare
from penstock_store.checkpoint_records import CheckpointRecords
from penstock_store.contract import Page, QueryOptions, an_id
from penstock_store.errors import StoreError
from penstock_store.file._checkpoints import FileCheckpoints
from penstock_store.file._commits import Commits
from penstock_store.file._reading import Reader
from penstock_store.file._snapshots import read_snapshot, write_snapshot
from penstock_store.file._writer import Writer
from penstock_store.file.settings import FileSettings
from penstock_store.read_errors import CLOSED, StoreUnavailable
from penstock_store.store_contract import Capability, Health, Snapshot, StoreMetrics
from penstock_store.store_errors import NotSupported

__all__ = ["FileEventStore"]

_READING: Final = frozenset(
    {Capability.SUBSCRIBE, Capability.DURABLE, Capability.CHECKPOINTS, Capability.ANY_QUERY}
)
_WRITING: Final = _READING | {
    Capability.APPEND,
    Capability.EXPECTED_VERSION,
    Capability.SNAPSHOTS,
    Capability.ANY_BATCH,
}
_LETTING_GO: Final = 5.0  # seconds that close() waits for the disk beyond `close_timeout`
_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


class FileEventStore(LocalReads, Consuming):
    """Implements `EventStore`; with `read_only` all of it but appends and snapshots.

    "Stored" means that fsync returned. Appends that wait at the same time share one. Unix only (flock).
    """

    def __init__(self, settings: FileSettings) -> None:
        super().__init__()
        self._settings = settings
        self.poll_interval = settings.poll_interval
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._snapshotting = asyncio.Lock()
        self._commits: Commits | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._meter = Meter()
        self._checkpoints = FileCheckpoints(settings.path, settings.clock, self._expired_sequence)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """One process writes; readers have no appends and no snapshots to make."""
        return _READING if self._settings.read_only else _WRITING

    async def initialize(self) -> None:
        """Take the lock, repair what a crash left, bring the index up to the lines. Safe to call again.

        Raises `StoreLocked`, or `StoreUnavailable` where the directory cannot be used.
        """
        if self._closing is not None:
            raise StoreUnavailable(CLOSED)
        if self._reader is not None:
            return
        if self._opening is None or self._opening.done():  # it failed
            self._opening = asyncio.create_task(self._open(), name="penstock-file-open")
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Threads go on: what they open is not lost where a caller gives up.
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            if self._writer is None and not self._settings.read_only:
                self._writer = await asyncio.to_thread(Writer, self._settings)
                timeout = self._settings.append_timeout
                self._commits = Commits(self._writer.commit, self._ask_tidy, timeout=timeout)
            self._reader = await asyncio.to_thread(Reader, self._settings.path)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"The directory {self._settings.path} cannot be used: {error}.") from error
        self._ask_tidy()

    async def close(self) -> None:
        """Finish what is under way, within `close_timeout`, and give the lock back. Safe to call again.

        Where the disk hangs, or the index is still being made, the lock is given back later; the log says so.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="penstock-file-close")
        timeout = self._settings.close_timeout + _LETTING_GO
        done, _ = await asyncio.wait({self._closing}, timeout=timeout)  # goes on where this is cancelled
        if done:
            self._closing.result()
        else:
            _log.warning("closing_goes_on", directory=str(self._settings.path), after_seconds=timeout)

    async def _close(self) -> None:
        if self._opening is not None and not self._opening.done():
            await asyncio.wait({self._opening})
        timeout, loop = self._settings.close_timeout, asyncio.get_running_loop()
        end = loop.time() + timeout
        if self._commits is not None:
            await self._commits.settle(timeout)
        if self._tidying is not None:
            await asyncio.wait({self._tidying}, timeout=max(0.0, end - loop.time()))
            self._ask_tidy()  # what was finished meanwhile
            await asyncio.wait({self._tidying}, timeout=max(0.0, end - loop.time()))
        reader, self._reader = self._reader, None
        if reader is not None:
            await asyncio.to_thread(reader.close)
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.to_thread(writer.close)

    async def append(self, event: Event, *, expected_version: int | None = None) -> AppendResult:
        """See `EventStore.append`."""
        return (await self.append_batch([event], expected_version=expected_version))[0]

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        """See `EventStore.append_batch`."""
        with self._meter.timed("append"):
            if self._settings.read_only:
                raise NotSupported(f"the store in {self._settings.path} was opened for reading only")
            prepared = prepare(events, expected_version)
            if not prepared.fields:
                return []
            await self.initialize()
            assert self._commits is not None  # noqa: S101  initialized for writing
            results = await self._commits.submit(prepared)
        self._meter.count(results)
        self._wake()
        return results

    def _ask_tidy(self) -> None:
        if self._writer is not None and (self._tidying is None or self._tidying.done()):
            self._tidying = asyncio.create_task(self._tidy(self._writer), name="penstock-file-tidy")

    async def _tidy(self, writer: Writer) -> None:
        try:
            while await asyncio.to_thread(writer.untidy):
                await asyncio.to_thread(writer.tidy)
        except Exception as error:  # nothing is lost: it is tried again after the next append
            _log.warning("tidying_failed", error=str(error))

    async def get_events(self, options: QueryOptions = EVERYTHING) -> Page:
        """See `EventReader.get_events`. Raises `CorruptedEvents` unless `skip_corrupted`."""
        with self._meter.timed("query"):
            return await self._page(options)

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """See `EventReader.get_event`. Raises `CorruptedEvents` where it may be among the corrupted."""
        event_id = an_id(event_id)
        with self._meter.timed("query"):
            return await self._read(lambda reader: reader.event(event_id))

    async def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventReader.stream`. Raises `CorruptedEvents` unless `skip_corrupted`."""
        ceiling = await self._last_sequence()
        position, remaining, skip = options.position(), options.limit, options.offset
        size = self._settings.stream_chunk
        if remaining is not None and not options.tags and not options.payload:
            size = min(size, remaining + skip)
        while remaining != 0:
            start = position
            chunk = await self._read(
                lambda reader, start=start: reader.chunk(options, start, ceiling, size)  # type: ignore[misc]
            )
            for event in chunk.events:
                if skip:
                    skip -= 1
                    continue
                yield event
                if remaining is not None:
                    remaining -= 1
                    if not remaining:
                        return
            position = chunk.position
            if position is None:
                return

    async def corrupted(self) -> list[str]:
        """Every corrupted place known so far: file, byte and what is wrong."""
        return await self._read(lambda reader: reader.corrupted())

    async def rebuild_index(self) -> int:
        """Make the index again from the lines; how many events they hold. Appends wait; reads go on with the
        index as it was, here and in other processes, until the new one is finished.
        """
        if self._settings.read_only:
            raise NotSupported(f"the store in {self._settings.path} was opened for reading only")
        await self.initialize()
        if self._writer is None:
            raise StoreUnavailable(CLOSED)
        return await asyncio.to_thread(self._writer.rebuild)

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool:
        """See `EventStore.create_snapshot`."""
        sequence = await self._last_sequence() if sequence is None else sequence
        text = snapshot_json(key, state, sequence, state_version)
        if self._settings.read_only:
            raise NotSupported(f"the store in {self._settings.path} was opened for reading only")
        await self.initialize()
        async with self._snapshotting:
            try:
                return await asyncio.to_thread(
                    write_snapshot,
                    self._settings.path,
                    key,
                    text,
                    sequence=sequence,
                    state_version=state_version,
                    taken_at=self._settings.clock(),
                )
            except OSError as error:
                raise StoreUnavailable(f"The snapshot could not be written: {error}.") from error

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None:
        """See `EventStore.get_snapshot`."""
        return await asyncio.to_thread(read_snapshot, self._settings.path, key, state_version)

    def checkpoint_records(self) -> CheckpointRecords:
        """Also of a store that was opened for reading only: its subscribers have positions too."""
        return self._checkpoints

    async def _expired_sequence(self) -> int:
        return await self._read(lambda reader: reader.first_sequence()) - 1

    async def health_check(self) -> Health:
        """Ready: the index answers in time, and the writer, where there is one, is not broken."""
        started = time.perf_counter()
        detail = "ok"
        try:
            async with asyncio.timeout(self._settings.append_timeout):
                await self._last_sequence()
            if self._writer is not None and self._writer.broken is not None:
                detail = self._writer.broken
        except TimeoutError:
            detail = f"{self._settings.path} did not answer within {self._settings.append_timeout:g} s"
        except StoreError as error:
            detail = str(error)
        return Health(
            live=True, ready=detail == "ok", detail=detail, latency_seconds=time.perf_counter() - started
        )

    async def get_metrics(self) -> StoreMetrics:
        """See `EventStore.get_metrics`."""
        events, corrupted = await self._read(lambda reader: reader.figures())
        return self._meter.metrics(
            "file",
            events=events,
            storage_bytes=await asyncio.to_thread(self._storage),
            last_sequence=await self._last_sequence(),
            corrupted=corrupted,
        )

    def _storage(self) -> int:
        total = 0
        for path in self._settings.path.rglob("*"):
            with suppress(FileNotFoundError):  # compressed or removed meanwhile
                total += path.stat().st_size
        return total

    async def _last_sequence(self) -> int:
        return await self._read(lambda reader: reader.last_sequence())

    async def _read(self, work: Callable[[Reader], _Result]) -> _Result:
        await self.initialize()
        if self._reader is None:
            raise StoreUnavailable(CLOSED)
        return await asyncio.to_thread(work, self._reader)
