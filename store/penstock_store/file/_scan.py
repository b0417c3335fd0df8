"""Reading a file's text line by line: what is whole, what is torn, what is corrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from penstock_store.file._lines import CorruptLine, head, index_row
from penstock_store.file._segments import Block, gzip_path, members, plain_path

__all__ = ["Damage", "Found", "Scan"]

_LONGEST: Final = 256 * 2**20  # bytes read as one line at most


class Found(NamedTuple):
    """A whole line. `row`: as `index_row`."""

    at: int
    length: int
    row: tuple[Any, ...]


class Damage(NamedTuple):
    """A place that cannot be trusted. `after`: the sequence before it; `lines`: how many events it held."""

    at: int
    length: int
    reason: str
    after: int
    lines: int


class Scan:
    """Iterate once; afterwards `end` is where whole batches end, and `torn` whether something follows there.

    `last`: the highest sequence before the file's part that is scanned, None where it is not known.
    """

    def __init__(self, directory: Path, name: str, *, compressed: bool, start: int, last: int | None) -> None:
        self._directory, self._name = directory, name
        self._compressed = compressed
        self._last = last
        self._unknown = 0  # corrupted lines since then
        self.blocks: list[Block] = []
        self.end = start
        self.torn = False
        self.rest: list[Found | Damage] = []  # what stands behind `end`

    def __iter__(self) -> Iterator[Found | Damage]:
        at = self.end
        left = 0  # lines of the batch under way that are still to come
        held: list[Found | Damage] = []
        for line in self._lines(at):
            if not line.endswith(b"\n"):
                held.append(self._damage(at, len(line), "the line is cut off", 1))
                self.torn = True
                break
            try:
                loaded = head(line)
                missing = self._missing(at, loaded["sequence"])
                if missing is not None:
                    held.append(missing)
                held.append(Found(at, len(line), index_row(loaded)))
                self._last, self._unknown = loaded["sequence"], 0
                left = loaded["left"]
            except (CorruptLine, ValueError, KeyError, TypeError, AttributeError) as error:
                held.append(self._damage(at, len(line), str(error) or type(error).__name__, 1))
                left = max(left - 1, 0)
            at += len(line)
            if not left:
                yield from held
                held.clear()
                self.end = at
        self.torn |= left > 0
        self.rest = held
        if self.torn and self._compressed:
            self.rest = [*held, self._damage(at, 0, "the file breaks off", 0)]

    def _lines(self, start: int) -> Iterator[bytes]:
        if not self._compressed:
            with plain_path(self._directory, self._name).open("rb") as source:
                source.seek(start)
                while line := source.readline(_LONGEST):
                    yield line
            return
        rest = b""
        for block, text in members(gzip_path(self._directory, self._name)):
            self.blocks.append(block)
            if text is None:
                self.torn = True
                return
            *whole, rest = (rest + text).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest

    def _missing(self, at: int, sequence: int) -> Damage | None:
        if self._last is None:
            return None
        gap = sequence - self._last - 1 - self._unknown
        if gap < 0:
            raise CorruptLine(f"sequence {sequence} comes after {self._last}")
        if not gap:
            return None
        return Damage(at, 0, f"{gap} event(s) before sequence {sequence} are missing", self._last, 0)

    def _damage(self, at: int, length: int, reason: str, lines: int) -> Damage:
        self._unknown += lines
        return Damage(at, length, reason, self._last or 0, lines)
