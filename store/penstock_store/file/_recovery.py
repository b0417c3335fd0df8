"""Bringing the index up to the lines, and the lines up to their last whole batch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from penstock_store.file._index import Index
from penstock_store.file._lines import CorruptLine, head
from penstock_store.file._scan import Damage, Row, Scan
from penstock_store.file._segments import gzip_path, members, plain_path, segment_names

__all__ = ["catch_up"]

_ROWS: Final = 500  # at a time; Python looks for garbage whenever 700 objects more are alive
_log = structlog.get_logger(__name__)


_Known = dict[str, tuple[int, bool, int]]


def catch_up(index: Index, directory: Path) -> bool:
    """Index what is not indexed. False where the index does not fit the files and has to be made again."""
    names = segment_names(directory)
    known: _Known = {name: (file, packed, indexed) for file, name, packed, indexed in index.files()}
    _notice_compressed(index, directory, names, known)
    if not _fits(directory, names, known):
        return False
    _index_rest(index, directory, names, known)
    return True


def _index_rest(index: Index, directory: Path, names: dict[str, bool], known: _Known) -> None:
    last: int | None = index.last_sequence() if known else None
    newest, trusted = max(names, default=None), index.finished
    for name, compressed in names.items():
        file, was_compressed, indexed = known.get(name, (0, compressed, 0))
        if file and (was_compressed or name != max(known)):  # finished
            continue
        with index.changing():
            file = file or index.add_file(name, compressed=compressed)
            if trusted and name == newest and not compressed:
                _cut_never_synced(plain_path(directory, name), indexed)
            scan = Scan(directory, name, compressed=compressed, start=indexed, last=last)
            some: list[Row | Damage] = []
            for batch in scan:
                some += batch
                if len(some) >= _ROWS:
                    index.add(file, some, scan.end)
                    some.clear()
            index.add(file, some, scan.end)
            _settle_end(index, scan, directory, file, name, active=name == newest and not compressed)
            if compressed:
                index.set_compressed(file, scan.blocks)
            last = index.last_sequence() or None


def _notice_compressed(index: Index, directory: Path, names: dict[str, bool], known: _Known) -> None:
    """A crash came after a file was compressed, and before the index was told."""
    for name, (file, compressed, indexed) in list(known.items()):
        if names.get(name) and not compressed:
            blocks = [block for block, _text in members(gzip_path(directory, name))]
            with index.changing():
                index.set_compressed(file, blocks)
            known[name] = (file, True, indexed)


def _fits(directory: Path, names: dict[str, bool], known: _Known) -> bool:
    """Every file that the index knows is there in the form it knows, and none comes before them."""
    for name, (_file, compressed, indexed) in known.items():
        if names.get(name) is not compressed:
            return False
        if not compressed and plain_path(directory, name).stat().st_size < indexed:
            return False
    newest = max(known, default="")
    return all(name in known or name > newest for name in names)


def _settle_end(index: Index, scan: Scan, directory: Path, file: int, name: str, *, active: bool) -> None:
    if not scan.torn:
        return
    if active:  # never acknowledged: the crash came before the fsync
        _cut(plain_path(directory, name), scan.end)
        return
    index.add(file, scan.rest, scan.end)


def _cut(path: Path, end: int) -> None:
    with path.open("r+b") as target:
        cut = target.seek(0, os.SEEK_END) - end
        target.truncate(end)
        os.fsync(target.fileno())
    _log.warning("torn_batch_removed", file=path.name, at=end, bytes=cut)


def _cut_never_synced(path: Path, indexed: int) -> None:
    """Cut at the batch of a line with NUL, which no line of ours holds: a page that a power loss kept from
    the disk. Only behind what an index of before knows: one made again knows of nothing acknowledged.
    """
    with path.open("rb") as source:
        source.seek(indexed)
        if any(b"\0" in line for line in source):
            source.seek(indexed)
            end = _never_synced(source, indexed)
            if end is not None:
                _cut(path, end)


def _never_synced(lines: Iterable[bytes], start: int) -> int | None:
    """Where the batch of the first line with NUL begins; None where later lines are of several writes: each
    began when the one before was fsynced, so this is damage to what may have been acknowledged.
    """
    begins = at = start
    left, found = 0, None
    writes: set[str] = set()  # each has one time of recording
    for line in lines:
        at += len(line)
        try:
            loaded = head(line)
            left = loaded["left"]
            if found is not None:
                writes.add(loaded["recorded_at"])
        except (CorruptLine, ValueError, KeyError, TypeError):
            left = max(left - 1, 0)
            if found is None and b"\0" in line:
                found = begins
        if not left:
            begins = at
    return found if len(writes) < 2 else None
