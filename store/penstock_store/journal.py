"""The journal: append an event once, read all of them back. A facade over the file and PostgreSQL backends.

journal = await create_event_journal()
if await journal.append_event(event):
    ...  # it was new
async for event in journal.read_events():
    ...
await journal.close()
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from penstock_schemas import Event, RecordedEvent
from penstock_store._meter import Meter
from penstock_store.backends import create_event_store
from penstock_store.contract import QueryOptions
from penstock_store.moving.journal import Migration, migrate_file_to_postgres
from penstock_store.moving.mirror import MirroredStore
from penstock_store.store_contract import EventStore, Latency
from penstock_store.store_errors import InvalidSettings, UnknownBackend

__all__ = ["EventJournal", "JournalMetrics", "Migration", "create_event_journal", "migrate_file_to_postgres"]

_BACKENDS: Final = ("file", "postgres", "postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalMetrics:
    """What this journal object did since it was made."""

    backend: str
    appended: int
    duplicates: int
    errors: int
    read: int  # events that read_events gave out
    append_latency: Latency


class EventJournal:
    """Made by `create_event_journal`. Leave `read_events` early by `contextlib.aclosing`."""

    def __init__(
        self, store: EventStore, backend: str, *, seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._store = store
        self._backend = backend
        self._meter = Meter(seconds)
        self._read = 0

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def initialize(self) -> None:
        """The factory has done so; safe to call again."""
        await self._store.initialize()

    async def append_event(self, event: Event) -> bool:
        """True once it is stored for good; False where its idempotency key is known, for ever.

        Raises `AppendConflict` where the key stands for something else, `StoreUnavailable` where the same
        call may pass later.
        """
        with self._meter.timed("append"):
            result = await self._store.append(event)
        self._meter.count([result])
        return result.stored

    async def read_events(self, *, skip_corrupted: bool = True) -> AsyncGenerator[RecordedEvent, None]:
        """Every event that is there now, in the order of the journal, in constant memory.

        What is skipped is reported in the log; without `skip_corrupted` it raises `CorruptedEvents`.
        """
        async with aclosing(self._store.stream(QueryOptions(skip_corrupted=skip_corrupted))) as events:
            async for event in events:
                self._read += 1
                yield event

    def get_metrics(self) -> JournalMetrics:
        """Counters of this object; asks nobody."""
        metrics = self._meter.metrics(self._backend, events=0, storage_bytes=0, last_sequence=0)
        return JournalMetrics(
            backend=self._backend,
            appended=metrics.appended,
            duplicates=metrics.duplicates,
            errors=metrics.errors,
            read=self._read,
            append_latency=metrics.append_latency,
        )

    async def close(self) -> None:
        """Give everything back within a deadline. Safe to call again."""
        await self._store.close()


async def create_event_journal(
    backend: str | None = None,
    *,
    directory: str | Path = "events",
    database_url: str | None = None,
    pool_size: int = 4,
    max_overflow: int = 0,
    environ: Mapping[str, str] | None = None,
) -> EventJournal:
    """A journal that is ready to use.

    While a file journal moves to PostgreSQL, EVENT_JOURNAL_MIRROR=postgres beside EVENT_JOURNAL_BACKEND=file
    brings what is appended to DATABASE_URL too; the files stay the truth. See `migrate_file_to_postgres`.

    `backend`: `file` or `postgres`; else what EVENT_JOURNAL_BACKEND says in `environ` (the process's own
    where none is given), else `file`. `file` keeps its events in `directory`. `postgres` connects to
    `database_url`, else DATABASE_URL (postgresql+asyncpg:// is understood too), with at most `pool_size` +
    `max_overflow` connections for appends and as many for reads. Raises `UnknownBackend`, `InvalidSettings`
    and what the backend's `initialize` raises.
    """
    given = os.environ if environ is None else environ
    chosen = backend or given.get("EVENT_JOURNAL_BACKEND") or "file"
    if chosen not in _BACKENDS:
        raise UnknownBackend(
            f"a journal has no backend {chosen!r}; write file or postgres, as the argument or in"
            " EVENT_JOURNAL_BACKEND"
        )
    url = database_url or given.get("DATABASE_URL")
    mirror = _mirror_of(chosen, given)
    if not url and (chosen != "file" or mirror):
        raise InvalidSettings(
            "the postgres journal needs an address: give database_url or set DATABASE_URL, such as"
            " postgresql://user:password@host:5432/database"
        )
    server: dict[str, Any] = {"dsn": url, "pool_size": pool_size + max_overflow}
    store = create_event_store(chosen, **({"directory": directory} if chosen == "file" else server))
    if mirror:
        store = MirroredStore(store, create_event_store(mirror, **server))
    try:
        await store.initialize()
    except BaseException:
        await store.close()
        raise
    return EventJournal(store, "file" if chosen == "file" else "postgresql")


def _mirror_of(chosen: str, given: Mapping[str, str]) -> str | None:
    mirror = given.get("EVENT_JOURNAL_MIRROR")
    if not mirror or chosen != "file":
        return None  # switched: what was the mirror is the journal
    if mirror not in ("postgres", "postgresql"):
        raise UnknownBackend(
            f"a file journal cannot be mirrored to {mirror!r}; write EVENT_JOURNAL_MIRROR=postgres"
        )
    return mirror
