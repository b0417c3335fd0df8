"""The one writer of a directory: lock, recovery, group commit, rotation. Blocks; the store calls it from
threads.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from penstock_store.appending import AppendOutcome, AppendResult, Prepared, fresh_places
from penstock_store.file._index import Index, damage_mark, index_path, is_damage, note_damage
from penstock_store.file._lines import encode_line, head, index_row
from penstock_store.file._recovery import catch_up
from penstock_store.file._scan import Damage, Row
from penstock_store.file._segments import (
    compress,
    gzip_path,
    next_name,
    open_end,
    plain_path,
    segment_names,
    sync_directory,
)
from penstock_store.file.settings import FileSettings
from penstock_store.read_errors import CLOSED, StoreUnavailable
from penstock_store.store_errors import AppendError, StoreLocked

__all__ = ["Writer"]

_LOCK: Final = "writer.lock"
_log = structlog.get_logger(__name__)

Settled = list[AppendResult] | AppendError


class Writer:
    """Made by `open`. `commit` and `tidy` may run in different threads at once."""

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings
        self._directory: Path = settings.path
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        self._guard = Lock()  # of the index's connection and of what follows
        self._broken: str | None = None
        self._closed = False
        self._handle: int | None = None
        try:
            self._adopt(self._open_index())
        except BaseException:
            os.close(self._lock)
            raise

    def _adopt(self, index: Index) -> None:
        """Go on where the index says that the lines end. Another index numbers the files otherwise."""
        self._index = index
        if self._handle is not None:
            os.close(self._handle)
        self._handle, self._file, self._size = None, 0, 0
        self._last_name: str | None = None
        for file, name, compressed, indexed in index.files()[-1:]:
            self._last_name = name
            if not compressed:
                try:
                    self._handle = open_end(self._directory, name, indexed)
                except OSError:
                    index.close()
                    raise
                self._file, self._size = file, indexed
        self._sequence = index.last_sequence()

    def _take_lock(self) -> int:
        path = self._directory / _LOCK
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(handle, 64, 0).decode(errors="replace").strip()
            os.close(handle)
            raise StoreLocked(
                f"another process (pid {owner or 'unknown'}) writes to {self._directory}. Stop it, or open "
                "the store with read_only=True"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return handle

    def _open_index(self) -> Index:
        """The index, caught up with the lines; made again where it does not fit them."""
        for part in self._directory.glob("*.tmp"):
            part.unlink()
        for name, compressed in segment_names(self._directory).items():
            if compressed:  # renamed when it was whole: the plain one was to be removed next
                plain_path(self._directory, name).unlink(missing_ok=True)
        damaged = damage_mark(self._directory).exists()
        return (None if damaged else self._caught_up()) or self._made_again()

    def _caught_up(self) -> Index | None:
        """None where there is none that fits. An error that says nothing of the index is raised."""
        try:
            with ExitStack() as opened:
                index = Index(self._directory)
                opened.callback(index.close)
                if index.finished and catch_up(index, self._directory):
                    opened.pop_all()
                    return index
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
        return None

    def _made_again(self) -> Index:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{index_path(self._directory)}{suffix}").unlink(missing_ok=True)
        with ExitStack() as opened:
            index = Index(self._directory)
            opened.callback(index.close)
            index.start()
            catch_up(index, self._directory)
            index.finish()
            damage_mark(self._directory).unlink(missing_ok=True)
            opened.pop_all()
            return index

    @property
    def broken(self) -> str | None:
        """Why nothing can be appended any more; None where it can."""
        return self._broken

    def _refuse_broken(self) -> None:
        if self._closed:
            raise StoreUnavailable(CLOSED)
        if self._broken is not None:
            raise self._unusable()

    def _unusable(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._broken}. Close this store and open it again")

    def rebuild(self) -> int:
        """Make the index again from the lines; the number of events.

        Raises StoreUnavailable; then the writer has to be opened again.
        """
        with self._guard:
            self._refuse_broken()
            try:
                self._index.close()
                self._adopt(self._made_again())
                return int(self._index.sql.execute("SELECT count(*) FROM events").fetchone()[0])
            except (OSError, sqlite3.Error) as error:
                self._broken = f"making the index of {self._directory} again failed: {error}"
                raise self._unusable() from error

    def commit(self, groups: Sequence[Prepared]) -> list[Settled]:
        """Decide each group in turn, write all that is new at once, fsync, then answer.

        Raises StoreUnavailable where the disk fails; then nothing is known to be stored, and the writer has
        to be opened again.
        """
        with self._guard:
            self._refuse_broken()
            before = self._sequence
            try:
                self._rotate_when_due()
                self._index.sql.execute("BEGIN IMMEDIATE")
                lines: list[bytes] = []
                now = self._settings.clock()  # one for each write: recovery tells them apart by it
                settled = [self._settle(group, lines, now) for group in groups]
                if lines:
                    self._write(b"".join(lines))
                self._index.sql.execute("COMMIT")
            except (OSError, sqlite3.Error) as error:
                self._fail(error)
                raise self._unusable() from error
            except BaseException:
                with suppress(sqlite3.Error):
                    self._index.sql.execute("ROLLBACK")
                self._sequence = before
                raise
            return settled

    def _settle(self, group: Prepared, lines: list[bytes], now: datetime) -> Settled:
        index = self._index
        known = {key: found for key in group.keys if (found := index.known(key)) is not None}
        taken = [one.event_id for one in group.fields if index.has_event_id(one.event_id)]
        version = index.version(group.entity) if group.expected_version is not None else 0
        try:
            fresh = fresh_places(group, known, taken, version)
        except AppendError as error:
            return error
        added: list[Row | Damage] = []
        at = self._size + sum(map(len, lines))
        for left, place in zip(range(len(fresh) - 1, -1, -1), fresh, strict=True):
            self._sequence += 1
            line = encode_line(group.fields[place], self._sequence, now, left)
            added.append(index_row(head(line), at, len(line)))
            lines.append(line)
            at += len(line)
        index.add(self._file, added, at)
        new = set(fresh)
        results = []
        for place, key in enumerate(group.keys):
            stands = index.known(key)
            assert stands is not None  # noqa: S101  it was, or was added above
            results.append(
                AppendResult(
                    outcome=AppendOutcome.STORED if place in new else AppendOutcome.DUPLICATE,
                    event_id=stands.event_id,
                    sequence=stands.sequence,
                    recorded_at=stands.recorded_at,
                )
            )
        return group.results(results)

    def _write(self, data: bytes) -> None:
        assert self._handle is not None  # noqa: S101  made by _rotate_when_due
        view, at = memoryview(data), self._size
        while view:
            written = os.pwrite(self._handle, view, at)
            view, at = view[written:], at + written
        os.fsync(self._handle)
        self._size = at

    def _fail(self, error: Exception) -> None:
        """After a failed fsync nothing that the system says of the file can be trusted: begin anew."""
        self._broken = f"writing to {self._directory} failed: {error}"
        note_damage(self._directory, error)
        with suppress(sqlite3.Error):
            self._index.sql.execute("ROLLBACK")
        if self._handle is not None:
            with suppress(OSError):
                os.ftruncate(self._handle, self._size)

    def _rotate_when_due(self) -> None:
        if self._handle is not None and self._size < self._settings.max_size:
            return
        name = next_name(self._settings.clock(), self._last_name)
        handle = os.open(plain_path(self._directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            sync_directory(self._directory)
            file = self._index.add_file(name, compressed=False)
        except BaseException:
            os.close(handle)
            raise
        if self._handle is not None:
            os.close(self._handle)
        self._handle, self._file, self._size, self._last_name = handle, file, 0, name

    def untidy(self) -> bool:
        """There is something for `tidy` to do."""
        with self._guard:
            if self._closed:
                return False
            files = self._index.files()
        too_many = self._settings.max_files is not None and len(files) > self._settings.max_files
        return too_many or (self._settings.compress and any(not packed for _, _, packed, _ in files[:-1]))

    def tidy(self) -> None:
        """Compress finished files and remove those beyond `max_files`."""
        with self._guard:
            files = self._index.files()
        surplus = len(files) - self._settings.max_files if self._settings.max_files is not None else 0
        for number, (_file, name, compressed, _indexed) in enumerate(files[:-1]):
            if number < surplus:
                self._remove(name)
            elif self._settings.compress and not compressed:
                blocks = compress(self._directory, name)
                with self._guard, self._index.changing():
                    self._index.set_compressed(self._index.file(name), blocks)
                plain_path(self._directory, name).unlink()

    def _remove(self, name: str) -> None:
        with self._guard:
            with self._index.changing():
                self._index.remove_file(self._index.file(name))
            for path in (plain_path(self._directory, name), gzip_path(self._directory, name)):
                path.unlink(missing_ok=True)
        _log.info("events_removed", file=name, because="max_files")

    def close(self) -> None:
        """Give lock, file and index back."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            with suppress(sqlite3.Error):
                self._index.close()
            if self._handle is not None:
                os.close(self._handle)
            os.close(self._lock)
