"""Bringing the index up to the lines, and the lines up to their last whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from penstock_store.file._index import Index
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
    newest = max(names, default=None)
    for name, compressed in names.items():
        file, was_compressed, indexed = known.get(name, (0, compressed, 0))
        if file and (was_compressed or name != max(known)):  # finished
            continue
        with index.changing():
            file = file or index.add_file(name, compressed=compressed)
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
        path = plain_path(directory, name)
        with path.open("r+b") as target:
            cut = target.seek(0, os.SEEK_END) - scan.end
            target.truncate(scan.end)
            os.fsync(target.fileno())
        _log.warning("torn_batch_removed", file=path.name, at=scan.end, bytes=cut)
        return
    index.add(file, scan.rest, scan.end)
