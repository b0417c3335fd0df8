"""Which keys of a batch closed partitions can hold, by the prints that sealing them left
(`migrations/sql/0001_prints.sql`). It spares keys of chance a look into every partition of the dedupe window.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

import asyncpg
import structlog

from penstock_store.appending import Key

__all__ = ["KeyFilter", "mark", "suspects"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_FIGURES: Final = """
SELECT name, rows, key_blocks FROM penstock.partitions
WHERE name = ANY ($1) AND state = 'closed' AND key_blocks IS NOT NULL
"""
_PRINTS: Final = "SELECT prints FROM penstock.key_prints WHERE leaf = $1 AND block >= $2 AND block < $3"
_BLOCKS_AT_ONCE: Final = 4096  # 2 MB of prints
_ORDER: Final[Literal["little", "big"]] = "little" if sys.byteorder == "little" else "big"
_BIT: Final = bytes(1 << place for place in range(8))
_FEWEST_BITS: Final = 2**16
_MOST_BITS: Final = 2**28  # 32 MiB
_BITS_PER_KEY: Final = 16  # at least: two of them are set, and of 70 keys one is looked for in vain
_KEYS_AT_ONCE: Final = 2**22  # loaded within one batch: some seconds
_LOOK: Final = 128  # a look into a partition costs about as much as that many keys more
_LOADED_FOR_A_LOOK: Final = 10  # keys are loaded in the time that one is looked for

_log = structlog.get_logger(__name__)


class KeyFilter:
    """Belongs to one session: what it has loaded is true as long as that lasts, as nothing is inserted into a
    sealed partition. A partition is loaded once the looks into it have cost as much as loading.

    It may take a key for one that a partition holds, never the other way round. Takes 32 MiB at most; what
    does not fit is looked into as before.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_FEWEST_BITS // 8)
        self._room = _FEWEST_BITS // _BITS_PER_KEY
        self._sizes: dict[str, tuple[int, int]] = {}
        self._looked: Counter[str] = Counter()
        self._loaded: set[str] = set()
        self._left_out: set[str] = set()

    async def narrow(
        self, connection: Connection, printed: Sequence[str], keys: Sequence[Key]
    ) -> tuple[Set[str], Sequence[Key]]:
        """Which of the partitions, newest first, that have prints are loaded, and the keys they can hold."""
        if unseen := [name for name in printed if name not in self._sizes]:
            figures = await connection.fetch(_FIGURES, unseen)
            self._sizes |= {name: (rows, blocks) for name, rows, blocks in figures}
        due = self._due(printed, len(keys))
        if sum(map(self._rows, due)) > self._room:
            self._start_anew(printed)
            due = self._due(printed, len(keys))
        for name in due:
            await self._load(connection, name)
        loaded = self._loaded.intersection(printed)
        return loaded, await asyncio.to_thread(suspects, self._bits, keys) if loaded else keys

    def _rows(self, name: str) -> int:
        return self._sizes[name][0]

    def _due(self, printed: Sequence[str], keys: int) -> list[str]:
        """What pays to be loaded now, for a batch's time at most."""
        due: list[str] = []
        total = 0
        for name in printed:
            if name in self._loaded or name in self._left_out or name not in self._sizes:
                continue
            self._looked[name] += keys + _LOOK
            if self._rows(name) > self._looked[name] * _LOADED_FOR_A_LOOK:
                continue
            total += self._rows(name)
            if due and total > _KEYS_AT_ONCE:
                break
            due.append(name)
        return due

    def _start_anew(self, printed: Sequence[str]) -> None:
        """Forget partitions that are out of the window, and make room for as many keys again."""
        wanted = [name for name in printed if name in self._sizes]
        bits = _FEWEST_BITS
        while bits < min(_MOST_BITS, 2 * _BITS_PER_KEY * sum(map(self._rows, wanted))):
            bits *= 2
        self._bits, self._room = bytearray(bits // 8), bits // _BITS_PER_KEY
        self._loaded, self._left_out = set(), set()
        total = 0
        for name in wanted:
            if total + self._rows(name) > self._room * 3 // 4:  # what closes later has to find room as well
                self._left_out.add(name)
            else:
                total += self._rows(name)

    async def _load(self, connection: Connection, name: str) -> None:
        rows, blocks = self._sizes[name]
        self._room -= rows
        for first in range(0, blocks, _BLOCKS_AT_ONCE):
            found = await connection.fetch(_PRINTS, name, first, first + _BLOCKS_AT_ONCE)
            prints = array("I", b"".join(row[0] for row in found))
            rows -= len(prints)
            await asyncio.to_thread(mark, self._bits, prints)
        if rows:  # dropped meanwhile, or restored without its prints
            _log.warning("partition_without_key_prints", partition=name, missing=rows)
            self._left_out.add(name)
        else:
            self._loaded.add(name)


def mark(bits: bytearray, prints: Iterable[int]) -> None:
    """Set two bits for each print. The array's length is a power of two."""
    last = len(bits) - 1
    for one in prints:
        bits[one >> 3 & last] |= _BIT[one & 7]
        other = one ^ one >> 15
        bits[other >> 3 & last] |= _BIT[other & 7]


def suspects(bits: bytearray, keys: Sequence[Key]) -> list[Key]:
    """The keys both of whose bits are set."""
    last, found, number = len(bits) - 1, [], int.from_bytes
    for key in keys:
        tenant_id, name = key
        one = number(sha256(f"{tenant_id}\n{name}".encode()).digest()[3:7], _ORDER)
        if bits[one >> 3 & last] & _BIT[one & 7]:
            other = one ^ one >> 15
            if bits[other >> 3 & last] & _BIT[other & 7]:
                found.append(key)
    return found
