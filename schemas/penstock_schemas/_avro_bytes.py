"""Avro's binary primitives."""

from typing import Final

__all__ = ["LAST_SMALL", "SMALL", "long", "sized", "text"]


def _varint(value: int) -> bytes:
    """A zigzag variable-length integer of up to 64 bits."""
    out = bytearray()
    rest = (value << 1) ^ (value >> 63)
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


SMALL: Final = tuple(_varint(value) for value in range(2_048))
"""Lengths, versions and counts, nearly always."""
LAST_SMALL: Final = len(SMALL)
_EIGHT_BYTES = range(1 << 48, 1 << 55)  # what times from 1978 to 3111 take
_LONG = range(-(1 << 63), 1 << 63)


def long(value: int) -> bytes:
    """An int or a long. Raises OverflowError beyond 64 bits."""
    if 0 <= value < LAST_SMALL:
        return SMALL[value]
    if value in _EIGHT_BYTES:
        # 56 bits, spread to 8 times 7 by halves; all bytes but the last say that one follows
        bits = value << 1
        bits = bits & 0x0FFFFFFF | (bits & 0xFFFFFFF0000000) << 4
        bits = bits & 0x00003FFF_00003FFF | (bits & 0x0FFFC000_0FFFC000) << 2
        bits = bits & 0x007F007F_007F007F | (bits & 0x3F803F80_3F803F80) << 1
        return (bits | 0x00808080_80808080).to_bytes(8, "little")
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
