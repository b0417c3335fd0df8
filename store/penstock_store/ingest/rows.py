"""Rows as PostgreSQL's binary COPY takes them."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from penstock_schemas.fields import EventFields
from penstock_schemas.rows import POSTGRES_EPOCH, row_of

__all__ = ["COLUMNS", "copy_chunk", "encode_row"]

COLUMNS: Final = ("sequence", "recorded_at", *EventFields._fields)
HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"

_head = Struct(">hiqiq").pack


def encode_row(fields: EventFields) -> bytes:
    """All columns but the first two."""
    return row_of(fields)[3]


def copy_chunk(rows: Sequence[bytes], sequences: Sequence[int], recorded_us: int) -> bytes:
    """Whole rows in COPY form, of cells that lack the first two columns: those are known when the batch is
    written. `recorded_us`: microseconds since the Unix epoch, one value for the batch."""
    stamp = recorded_us - POSTGRES_EPOCH
    pieces: list[bytes] = [b""] * (2 * len(rows))
    pieces[0::2] = [_head(len(COLUMNS), 8, sequence, 8, stamp) for sequence in sequences]
    pieces[1::2] = rows
    return b"".join(pieces)
