"""Reads: the index says where, the lines say what. Blocks; the store calls it from threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from penstock_schemas import RecordedEvent
from penstock_schemas.fields import microseconds
from penstock_store._cursor import OrderBy, Position
from penstock_store._recorded import instant
from penstock_store._selecting import COMPARED, SORTED_BY
from penstock_store.contract import QueryOptions
from penstock_store.file._index import VERSION, connect, index_path, note_damage
from penstock_store.file._lines import CorruptLine, read_event
from penstock_store.file._segments import Block, Lines, gzip_path, plain_path
from penstock_store.read_errors import CLOSED, StoreUnavailable
from penstock_store.store_errors import CorruptedEvents

__all__ = ["Chunk", "Reader"]

_PATIENCE: Final = 15.0  # seconds until another read of this store has let go of the index
_COLUMNS: Final = {"occurred_at": "occurred", "recorded_at": "recorded"}  # others have the field's name
_WHERE: Final = "SELECT sequence, occurred, event_id, file, at, length FROM events"
_log = structlog.get_logger(__name__)
_Identity = tuple[int, int]


class Chunk(NamedTuple):
    """Some events of a read, and where it goes on; None: that was all."""

    events: Sequence[RecordedEvent]
    position: Position | None


class Reader:
    """One connection to the index and a few open files, for one caller at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = Lock()
        self._closed = False
        self._lines = Lines(directory)
        self._files: dict[int, tuple[str, bool, list[Block]]] = {}
        self._reported: set[str] = set()
        self._identity, self._sql = self._opened()

    def _opened(self) -> tuple[_Identity | None, sqlite3.Connection]:
        """The index, if it is finished, and which file it is: asked first, so that no newer one is missed."""
        identity = _identity(self._directory)
        try:
            sql = connect(self._directory, read_only=True)
            if sql.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return identity, sql
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        sql.close()
        raise self._unavailable("its index is not finished")

    def _follow(self) -> None:
        """Go over to the index that the writer made again. While it does, the deleted one will do: nothing is
        appended meanwhile.
        """
        if _identity(self._directory) in (None, self._identity):
            return
        with suppress(StoreUnavailable):
            newer = self._opened()
            self._sql.close()
            self._lines.close()
            self._files.clear()  # it numbers them anew
            self._reported.clear()
            self._identity, self._sql = newer

    def close(self) -> None:
        """Wait for a read under way, then give everything back. Safe to call again."""
        with self._lock:
            self._closed = True
            self._lines.close()
            self._sql.close()

    def chunk(self, options: QueryOptions, position: Position | None, ceiling: int, size: int) -> Chunk:
        """At most `size` places after `position`, not above `ceiling`; those of them that match."""
        text, values = _select(options, position, ceiling, size)
        with self._locked():
            if not options.skip_corrupted:
                self._refuse_damage()
            rows = self._sql.execute(text, values).fetchall()
            events = [event for row in rows if (event := self._event(row, options)) is not None]
        if len(rows) < size:
            return Chunk(events, None)
        sequence, occurred, event_id = rows[-1][:3]
        key: datetime | UUID | None = None
        if options.order_by is OrderBy.TIME:
            key = instant(occurred)
        elif options.order_by is OrderBy.EVENT_ID:
            key = UUID(bytes=event_id)
        after = Position(order_by=options.order_by, descending=options.descending, key=key, sequence=sequence)
        return Chunk(events, after)

    def event(self, event_id: UUID) -> RecordedEvent | None:
        """Raises `CorruptedEvents` where it is not found and corrupted places may hold it."""
        with self._locked():
            row = self._sql.execute(f"{_WHERE} WHERE event_id = ?", (event_id.bytes,)).fetchone()
            if row is None:
                self._refuse_damage()
                return None
            return self._event(row, QueryOptions())

    def last_sequence(self) -> int:
        """Of the events that can be read now."""
        with self._locked():
            return int(self._sql.execute("SELECT max(sequence) FROM events").fetchone()[0] or 0)

    def first_sequence(self) -> int:
        """Of the oldest event that is kept; 1 where there is none. Numbers begin at 1 and leave no gap."""
        with self._locked():
            return int(self._sql.execute("SELECT min(sequence) FROM events").fetchone()[0] or 1)

    def figures(self) -> tuple[int, int]:
        """How many events, and how many corrupted places."""
        with self._locked():
            events = self._sql.execute("SELECT count(*) FROM events").fetchone()[0]
            return int(events), len(self._damages() | self._reported)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """For one caller, within a deadline; SQLite's errors as the store's."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise StoreUnavailable(f"Another read held the store's index for {_PATIENCE:g} s. Try again.")
        try:
            if self._closed:
                raise StoreUnavailable(CLOSED)
            self._follow()
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error
        finally:
            self._lock.release()

    def _event(self, row: Sequence[Any], options: QueryOptions) -> RecordedEvent | None:
        """The event of an index row where it passes the filters on documents."""
        _sequence, _occurred, _id, file, at, length = row
        try:
            return read_event(self._read(file, at, length), options)
        except (CorruptLine, ValueError) as error:
            place = f"{self._name(file)} at byte {at}: {error}"
            self._report({place})
            if not options.skip_corrupted:
                raise CorruptedEvents([place]) from error
            return None

    def _read(self, file: int, at: int, length: int) -> bytes:
        for _ in range(3):  # while the file is being compressed by the writer
            name, compressed, blocks = self._file(file)
            try:
                if compressed:
                    return self._lines.read_gzip(name, blocks, at, length)
                return self._lines.read_plain(name, at, length)
            except FileNotFoundError:
                self._files.pop(file, None)
        raise StoreUnavailable(
            f"{self._name(file)} is gone from {self._directory}: it was removed, by max_files or by hand."
            " Read again; where it stays so, open the store for writing, which makes the index fit."
        )

    def _file(self, file: int) -> tuple[str, bool, list[Block]]:
        found = self._files.get(file)
        if found is None:
            row = self._sql.execute("SELECT name, compressed FROM files WHERE id = ?", (file,)).fetchone()
            name, compressed = row or (f"file {file}", 0)
            blocks = [
                Block(*block)
                for block in self._sql.execute(
                    "SELECT text_start, file_start FROM blocks WHERE file = ? ORDER BY text_start", (file,)
                )
            ]
            found = self._files[file] = name, bool(compressed), blocks
        return found

    def _name(self, file: int) -> str:
        name, compressed, _blocks = self._file(file)
        return (gzip_path if compressed else plain_path)(self._directory, name).name

    def _damages(self) -> set[str]:
        rows = self._sql.execute("SELECT file, at, reason FROM corrupted ORDER BY file, at").fetchall()
        return {f"{self._name(file)} at byte {at}: {reason}" for file, at, reason in rows}

    def _refuse_damage(self) -> None:
        damages = self._damages()
        self._report(damages)
        if damages:
            raise CorruptedEvents(sorted(damages))

    def corrupted(self) -> list[str]:
        """Every corrupted place that is known, reported in the log once."""
        with self._locked():
            self._report(self._damages())
            return sorted(self._reported)

    def _report(self, places: set[str]) -> None:
        for place in sorted(places - self._reported):
            _log.warning("corrupted_events", place=place)
        self._reported |= places

    def _unavailable(self, cause: object) -> StoreUnavailable:
        note_damage(self._directory, cause)
        return StoreUnavailable(
            f"The events in {self._directory} cannot be read: {cause}. Open the store once for writing, which"
            " makes the directory and its index; where it says so again, call rebuild_index()."
        )


def _identity(directory: Path) -> _Identity | None:
    """Which file the index is. Its numbers are not given to another one while it is open."""
    try:
        found = index_path(directory).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _select(
    options: QueryOptions, position: Position | None, ceiling: int, size: int
) -> tuple[str, list[Any]]:
    conditions = ["sequence <= ?"]
    values: list[Any] = [ceiling]
    for name, sign, option in COMPARED:
        value = getattr(options, option)
        if value is not None:
            conditions.append(f"{_COLUMNS.get(name, name)} {sign} ?")
            values.append(microseconds(value) if isinstance(value, datetime) else value)
    if options.event_types:
        conditions.append(f"event_type IN ({', '.join('?' * len(options.event_types))})")
        values += options.event_types
    keys = [_COLUMNS.get(name, name) for name in SORTED_BY[options.order_by]]
    if position is not None:
        sign = "<" if position.descending else ">"
        conditions.append(f"({', '.join(keys)}) {sign} ({', '.join('?' * len(keys))})")
        values += _key_values(position)
    direction = " DESC" if options.descending else ""
    order = ", ".join(f"{key}{direction}" for key in keys)
    return f"{_WHERE} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {int(size)}", values


def _key_values(position: Position) -> list[Any]:
    if isinstance(position.key, datetime):
        return [microseconds(position.key), position.sequence]
    if position.key is not None:
        return [position.key.bytes, position.sequence]
    return [position.sequence]
