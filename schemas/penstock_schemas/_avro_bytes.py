"""Avro's binary primitives."""

from typing import Final

from penstock_schemas._kept import Kept

__all__ = ["LAST_SMALL", "MORE", "SMALL", "THREE_BYTES", "UPPER", "long", "sized", "text"]


def _varint(value: int) -> bytes:
    """A zigzag variable-length integer of up to 64 bits."""
    return _groups((value << 1) ^ (value >> 63))


def _groups(bits: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last say that one follows."""
    out = bytearray()
    while bits > 0x7F:
        out.append((bits & 0x7F) | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


SMALL: Final = tuple(_varint(value) for value in range(2_048))
"""Lengths, versions and counts, nearly always."""
LAST_SMALL: Final = len(SMALL)
MORE: Final = tuple(bytes((bits | 0x80,)) for bits in range(128))
"""Seven bits, when more follow."""
UPPER: Final = Kept(_groups, 1024)
"""All bits but the lowest 14, which times close to each other share."""
THREE_BYTES: Final = 1 << 13
"""The least number that needs three bytes."""
_NINE_BYTES = 1 << 62
_LONG = range(-(1 << 63), 1 << 63)


def long(value: int) -> bytes:
    """An int or a long. Raises OverflowError beyond 64 bits."""
    if 0 <= value < LAST_SMALL:
        return SMALL[value]
    if THREE_BYTES <= value < _NINE_BYTES:
        bits = value << 1
        return MORE[bits & 0x7F] + MORE[bits >> 7 & 0x7F] + UPPER[bits >> 14]
    if value not in _LONG:
        raise OverflowError(f"is {value}, which does not fit into 64 bits")
    return _varint(value)


def sized(value: bytes) -> bytes:
    """Bytes after their length."""
    size = len(value)
    return (SMALL[size] if size < LAST_SMALL else _varint(size)) + value


def text(value: str) -> bytes:
    """A string: its UTF-8 after the length in bytes. Raises ValueError for half of a surrogate pair."""
    raw = value.encode()
    size = len(raw)
    return (SMALL[size] if size < LAST_SMALL else _varint(size)) + raw
