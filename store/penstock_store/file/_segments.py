"""The files `events-<UTC time>.jsonl[.gz]`: their names, compression in blocks, reading a place of them.

A compressed file is a row of gzip members, which every gzip reads as one file; a place is found by reading
one member.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

__all__ = [
    "Block", "Lines", "compress", "members", "next_name", "open_end", "segment_names", "sync_directory",
]  # fmt: skip

_PREFIX: Final = "events-"
_PLAIN: Final = ".jsonl"
_GZIP: Final = ".jsonl.gz"
_FORM: Final = f"{_PREFIX}%Y%m%dT%H%M%S.%fZ"
_BLOCK: Final = 128 * 1024  # bytes of text in a member: reading one event costs about 0.5 ms
_READ: Final = 2**20
_GZIP_FORMAT: Final = 31  # zlib's window bits for gzip
_CACHED_BLOCKS: Final = 4


class Block(NamedTuple):
    """Where a member begins: in the text, and in the file."""

    text_start: int
    file_start: int


def segment_names(directory: Path) -> dict[str, bool]:
    """Names without suffix, oldest first, with whether the file is compressed."""
    found: dict[str, bool] = {}
    for path in directory.glob(f"{_PREFIX}*"):
        if path.name.endswith(_GZIP):
            found[path.name.removesuffix(_GZIP)] = True
        elif path.name.endswith(_PLAIN):
            found.setdefault(path.name.removesuffix(_PLAIN), False)
    return dict(sorted(found.items()))


def next_name(now: datetime, last: str | None) -> str:
    """A name after `last`, whatever the clock says."""
    name = now.astimezone(UTC).strftime(_FORM)
    if last is not None and name <= last:
        after = datetime.strptime(last, _FORM).replace(tzinfo=UTC) + timedelta(microseconds=1)
        name = after.strftime(_FORM)
    return name


def plain_path(directory: Path, name: str) -> Path:
    return directory / (name + _PLAIN)


def gzip_path(directory: Path, name: str) -> Path:
    return directory / (name + _GZIP)


def open_end(directory: Path, name: str, end: int) -> int:
    """A handle to append with. Raises OSError where the file does not end at `end`."""
    path = plain_path(directory, name)
    handle = os.open(path, os.O_WRONLY)
    size = os.fstat(handle).st_size
    if size != end:
        os.close(handle)
        raise OSError(
            f"{path.name} has {size:,} bytes, but its index ends at byte {end:,}: what is written there would"
            " go over events. Close the store and remove index.sqlite, which is made again from the lines"
        )
    return handle


def sync_directory(directory: Path) -> None:
    """Make names in it survive a crash."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def compress(directory: Path, name: str) -> list[Block]:
    """Write the compressed file beside the plain one, which stays; atomic."""
    target = gzip_path(directory, name)
    part = target.with_suffix(".tmp")
    blocks = []
    with plain_path(directory, name).open("rb") as source, part.open("wb") as out:
        text_start = 0
        while text := b"".join(source.readlines(_BLOCK)):
            blocks.append(Block(text_start, out.tell()))
            packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP_FORMAT)
            out.write(packer.compress(text) + packer.flush())
            text_start += len(text)
        out.flush()
        os.fsync(out.fileno())
    part.replace(target)
    sync_directory(directory)
    return blocks


def members(path: Path) -> Iterator[tuple[Block, bytes | None]]:
    """Each member of a compressed file with its text; None, and the end, where it is cut off or broken."""
    with path.open("rb") as source:
        data, file_start, text_start = source.read(_READ), 0, 0
        while data:
            unpacker = zlib.decompressobj(_GZIP_FORMAT)
            pieces, taken = [], 0
            try:
                while True:
                    pieces.append(unpacker.decompress(data))
                    taken += len(data) - len(unpacker.unused_data)
                    if unpacker.eof:
                        break
                    data = source.read(_READ)
                    if not data:
                        raise zlib.error("cut off")  # noqa: TRY301
            except zlib.error:
                yield Block(text_start, file_start), None
                return
            text = b"".join(pieces)
            yield Block(text_start, file_start), text
            text_start += len(text)
            file_start += taken
            data = unpacker.unused_data or source.read(_READ)


class Lines:
    """Reads places of files; keeps a few handles and blocks. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._handles: dict[Path, int] = {}
        self._cache: dict[tuple[str, int], bytes] = {}

    def read_plain(self, name: str, at: int, length: int) -> bytes:
        """Raises OSError; FileNotFoundError where the file was compressed or removed meanwhile."""
        return os.pread(self._handle(plain_path(self._directory, name)), length, at)

    def read_gzip(self, name: str, blocks: list[Block], at: int, length: int) -> bytes:
        """As `read_plain`. What cannot be unpacked is empty."""
        number = bisect_right(blocks, at, key=lambda block: block.text_start) - 1
        text = self._cache.get((name, number))
        if text is None:
            text = self._unpack(name, blocks, number)
            while len(self._cache) >= _CACHED_BLOCKS:
                del self._cache[next(iter(self._cache))]
            self._cache[name, number] = text
        start = at - blocks[number].text_start
        return text[start : start + length]

    def _unpack(self, name: str, blocks: list[Block], number: int) -> bytes:
        path = gzip_path(self._directory, name)
        handle = self._handle(path)
        start = blocks[number].file_start
        end = blocks[number + 1].file_start if number + 1 < len(blocks) else os.fstat(handle).st_size
        try:
            return zlib.decompressobj(_GZIP_FORMAT).decompress(os.pread(handle, end - start, start))
        except zlib.error:
            return b""

    def _handle(self, path: Path) -> int:
        handle = self._handles.get(path)
        if handle is None:
            handle = os.open(path, os.O_RDONLY)
            while len(self._handles) >= 16:
                os.close(self._handles.pop(next(iter(self._handles))))
            self._handles[path] = handle
        return handle

    def close(self) -> None:
        """Give the handles back."""
        while self._handles:
            os.close(self._handles.popitem()[1])
        self._cache.clear()
