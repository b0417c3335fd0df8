"""Reading a file's text line by line: what is whole, what is torn, what is corrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from penstock_store.file._lines import CorruptLine, head, index_row
from penstock_store.file._segments import Block, gzip_path, members, plain_path

__all__ = ["Damage", "Row", "Scan"]

_LONGEST: Final = 256 * 2**20  # bytes read as one line at most


Row = tuple[Any, ...]
"""A whole line, as `index_row`."""


class Damage(NamedTuple):
    """A place that cannot be trusted. `after`: the sequence before it; `lines`: how many events it held."""

    at: int
    length: int
    reason: str
    after: int
    lines: int


class Scan:
    """Iterate once, over whole batches: `end` is where the one given out ends, and afterwards `torn` says
    whether something follows there.

    `last`: the highest sequence before the file's part that is scanned, None where it is not known.
    """

    def __init__(self, directory: Path, name: str, *, compressed: bool, start: int, last: int | None) -> None:
        self._directory, self._name = directory, name
        self._compressed = compressed
        self._last = last
        self._expected = None if last is None else last + 1  # corrupted lines have numbers, too
        self.blocks: list[Block] = []
        self.end = start
        self.torn = False
        self.rest: list[Row | Damage] = []  # what stands behind `end`

    def __iter__(self) -> Iterator[list[Row | Damage]]:
        at = self.end
        left = 0  # lines of the batch under way that are still to come
        held: list[Row | Damage] = []
        for line in self._lines(at):
            if not line.endswith(b"\n"):
                held.append(self._damage(at, len(line), "the line is cut off", 1))
                self.torn = True
                break
            try:
                loaded = head(line)
                sequence = loaded["sequence"]
                if sequence != self._expected:
                    held += self._missing(at, sequence)
                row = index_row(loaded, at, len(line))
                left, self._expected = loaded["left"], sequence + 1
                held.append(row)
                self._last = sequence
            except (CorruptLine, ValueError, KeyError, TypeError, AttributeError) as error:
                held.append(self._damage(at, len(line), str(error) or type(error).__name__, 1))
                left = max(left - 1, 0)
            at += len(line)
            if not left:
                self.end = at
                yield held
                held = []
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

    def _missing(self, at: int, sequence: int) -> list[Damage]:
        if self._expected is None:
            return []
        gap = sequence - self._expected
        if gap < 0:
            raise CorruptLine(f"sequence {sequence} comes after {self._last}")
        return [Damage(at, 0, f"{gap} event(s) before sequence {sequence} are missing", self._last or 0, 0)]

    def _damage(self, at: int, length: int, reason: str, lines: int) -> Damage:
        if self._expected is not None:
            self._expected += lines
        return Damage(at, length, reason, self._last or 0, lines)
