"""Rows as PostgreSQL's binary COPY takes them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from struct import Struct
from typing import Final

from penstock_schemas.fields import EventFields
from penstock_schemas.rows import POSTGRES_EPOCH, row_of

__all__ = ["COLUMNS", "copy_chunk", "encode_row"]

COLUMNS: Final = ("sequence", "recorded_at", *EventFields._fields)
HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"

_before = Struct(">hi").pack
_after = Struct(">iq").pack
_head = Struct(">6sq12s").pack


def encode_row(fields: EventFields) -> bytes:
    """All columns but the first two."""
    return row_of(fields)[3]


def copy_chunk(rows: Sequence[bytes], sequences: Sequence[int], recorded_us: int) -> bytes:
    """Whole rows in COPY form, of cells that lack the first two columns: those are known when the batch is
    written. `recorded_us`: microseconds since the Unix epoch, one value for the batch."""
    before, after = _before(len(COLUMNS), 8), _after(8, recorded_us - POSTGRES_EPOCH)
    pieces: list[bytes] = [b""] * (2 * len(rows))
    pieces[0::2] = map(_head, repeat(before), sequences, repeat(after))
    pieces[1::2] = rows
    return b"".join(pieces)
