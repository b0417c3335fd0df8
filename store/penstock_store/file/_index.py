"""The SQLite index beside the lines: where each event stands, and its columns to filter by.

It can be lost: the lines are the truth, and it is made again from them. It is never ahead of them, because
its transaction commits after their fsync.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from penstock_store._recorded import instant
from penstock_store.appending import Key, Known
from penstock_store.file._lines import COLUMNS
from penstock_store.file._scan import Damage, Row
from penstock_store.file._segments import Block

__all__ = ["VERSION", "Index", "connect", "damage_mark", "index_path", "is_damage", "note_damage"]

VERSION: Final = 3  # PRAGMA user_version of a finished index; 0 while it is made
_BUSY_SECONDS: Final = 10.0
_TABLES: Final = """
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, compressed INTEGER NOT NULL,
    indexed INTEGER NOT NULL);
CREATE TABLE blocks (file INTEGER NOT NULL, text_start INTEGER NOT NULL, file_start INTEGER NOT NULL,
    PRIMARY KEY (file, text_start)) WITHOUT ROWID;
CREATE TABLE corrupted (file INTEGER NOT NULL, at INTEGER NOT NULL, length INTEGER NOT NULL,
    reason TEXT NOT NULL, after INTEGER NOT NULL, lines INTEGER NOT NULL);
CREATE TABLE events (sequence INTEGER PRIMARY KEY, event_id BLOB NOT NULL, event_type TEXT NOT NULL,
    occurred INTEGER NOT NULL, recorded INTEGER NOT NULL, actor_id TEXT, entity_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL, correlation_id TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL,
    file INTEGER NOT NULL, at INTEGER NOT NULL, length INTEGER NOT NULL);
"""
# SQLite appends the row's sequence to each: equal keys come in the store's order. One that ends with another
# column cannot give that order, and each chunk of a stream would sort all that is left.
_INDEXES: Final = """
CREATE INDEX by_key ON events (key, tenant_id);
CREATE INDEX by_event_id ON events (event_id);
CREATE INDEX by_time ON events (occurred);
CREATE INDEX by_type ON events (event_type, occurred);
CREATE INDEX by_correlation ON events (correlation_id, occurred);
CREATE INDEX by_entity ON events (entity_id, tenant_id);
CREATE INDEX by_entity_sequence ON events (entity_id);
CREATE INDEX by_correlation_sequence ON events (correlation_id);
CREATE INDEX by_type_sequence ON events (event_type);
CREATE INDEX by_actor_sequence ON events (actor_id) WHERE actor_id IS NOT NULL;
CREATE INDEX by_actor ON events (actor_id, occurred) WHERE actor_id IS NOT NULL;
"""
_INSERT: Final = f"INSERT INTO events ({', '.join(COLUMNS)}, file) VALUES ({'?, ' * len(COLUMNS)}%d)"


# What SQLite says of the disk, of memory or of other processes, and not of the index.
_ELSEWHERE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def is_damage(error: sqlite3.Error) -> bool:
    """The index cannot be used and has to be made again; otherwise it may be a good one."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _ELSEWHERE


def damage_mark(directory: Path) -> Path:
    """It is there where SQLite met broken pages, of which opening the index would not tell."""
    return directory / "index.damaged"


def note_damage(directory: Path, error: object) -> None:
    """Have the index made again by whoever opens the store for writing next."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        with suppress(OSError):  # a reader may be allowed to write nothing
            damage_mark(directory).touch()


def index_path(directory: Path) -> Path:
    return directory / "index.sqlite"


def connect(directory: Path, *, read_only: bool) -> sqlite3.Connection:
    """Usable from any thread, one at a time. Raises sqlite3.Error."""
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"file:{_quoted(index_path(directory))}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA cache_size = -65536")
    return connection


def _quoted(path: Path) -> str:
    return path.absolute().as_uri().removeprefix("file://")


class Index:
    """The writer's side of the index. Every change is in a transaction of the caller's."""

    def __init__(self, directory: Path) -> None:
        self._path = index_path(directory)
        self.sql = connect(directory, read_only=False)
        # WAL: readers go on meanwhile. NORMAL: a crash may cost the newest rows, never the order of things.
        self.sql.execute("PRAGMA journal_mode = WAL")
        self.sql.execute("PRAGMA synchronous = NORMAL")

    @property
    def finished(self) -> bool:
        """It was made to its end, by this version."""
        return bool(self.sql.execute("PRAGMA user_version").fetchone()[0] == VERSION)

    def start(self) -> None:
        """Empty tables, without the indexes, which are made faster at the end."""
        self.sql.execute("PRAGMA synchronous = OFF")  # until finish(): what a crash leaves is made again
        self.sql.executescript(f"BEGIN; {_TABLES} COMMIT;")

    def finish(self) -> None:
        """Make the indexes and declare it finished."""
        self.sql.executescript(f"BEGIN; {_INDEXES} COMMIT;")
        self.sql.execute("PRAGMA synchronous = NORMAL")
        self.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # on disk before the word that it is whole
        self.sql.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        self.sql.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction, undone where its block fails."""
        with self.sql:
            self.sql.execute("BEGIN IMMEDIATE")
            yield

    def files(self) -> list[tuple[int, str, bool, int]]:
        """(id, name, compressed, bytes of text indexed), oldest first."""
        rows = self.sql.execute("SELECT id, name, compressed, indexed FROM files ORDER BY name").fetchall()
        return [(number, name, bool(compressed), indexed) for number, name, compressed, indexed in rows]

    def file(self, name: str) -> int:
        """Its number in this index: one that is made again numbers the files anew."""
        return int(self.sql.execute("SELECT id FROM files WHERE name = ?", (name,)).fetchone()[0])

    def add_file(self, name: str, *, compressed: bool) -> int:
        added = self.sql.execute(
            "INSERT INTO files (name, compressed, indexed) VALUES (?, ?, 0)", (name, compressed)
        )
        return int(added.lastrowid or 0)

    def set_compressed(self, file: int, blocks: Sequence[Block]) -> None:
        self.sql.execute("UPDATE files SET compressed = 1 WHERE id = ?", (file,))
        self.sql.execute("DELETE FROM blocks WHERE file = ?", (file,))
        self.sql.executemany("INSERT INTO blocks VALUES (?, ?, ?)", [(file, *block) for block in blocks])

    def add(self, file: int, found: Iterable[Row | Damage], indexed: int) -> None:
        """Lines and damages of a file, whose text is indexed up to `indexed`."""
        rows = []
        for one in found:
            if isinstance(one, Damage):
                self.sql.execute("INSERT INTO corrupted VALUES (?, ?, ?, ?, ?, ?)", (file, *one))
            else:
                rows.append(one)
        self.sql.executemany(_INSERT % file, rows)
        self.sql.execute("UPDATE files SET indexed = ? WHERE id = ?", (indexed, file))

    def remove_file(self, file: int) -> None:
        """Forget a file with its events and keys."""
        self.sql.execute("DELETE FROM events WHERE file = ?", (file,))
        for table in ("blocks", "corrupted"):
            self.sql.execute(f"DELETE FROM {table} WHERE file = ?", (file,))
        self.sql.execute("DELETE FROM files WHERE id = ?", (file,))

    def last_sequence(self) -> int:
        """The highest one given out, corrupted lines at the end included."""
        last = self.sql.execute("SELECT max(sequence) FROM events").fetchone()[0] or 0
        unknown = self.sql.execute(
            "SELECT coalesce(sum(lines), 0) FROM corrupted WHERE after >= ?", (last,)
        ).fetchone()[0]
        return int(last) + int(unknown)

    def known(self, key: Key) -> Known | None:
        """What is stored under a key."""
        row = self.sql.execute(
            "SELECT hash, event_id, sequence, recorded FROM events WHERE key = ? AND tenant_id = ?",
            (key[1], key[0]),
        ).fetchone()
        return row and Known(row[0], UUID(bytes=row[1]), row[2], instant(row[3]))

    def has_event_id(self, event_id: bytes) -> bool:
        found = self.sql.execute("SELECT 1 FROM events WHERE event_id = ?", (event_id,)).fetchone()
        return found is not None

    def version(self, entity: Key) -> int:
        """The sequence of the newest event of (tenant, entity); 0 where there is none."""
        row = self.sql.execute(
            "SELECT max(sequence) FROM events WHERE entity_id = ? AND tenant_id = ?", (entity[1], entity[0])
        ).fetchone()
        return int(row[0] or 0)
