"""From our own layout's bytes straight to a row, for the common record: the worker's hottest function.

A text on the wire and a cell of COPY are both UTF-8 after a length, and the fields come in one order, so a
row is slices of the record with other lengths between them. A third of what reading, checking and packing the
fields one by one costs (`python -m benchmarks.decode`). Right or gives up: whatever is unusual (a long
identifier, an empty text, a year of 1960, any fault) raises one of `GIVES_UP` and is read the slower way.
"""

from binascii import unhexlify
from collections.abc import Callable
from struct import Struct, error
from typing import Final, cast

from penstock_schemas._json_text import check_object
from penstock_schemas.errors import DecodeError
from penstock_schemas.rows import NULL, POSTGRES_EPOCH, SIXTEEN, Row, json_head, length, time_cell

__all__ = ["GIVES_UP", "NestedPayload", "read_row"]

NestedPayload = Callable[[bytes, int], tuple[bytes, int]]
"""From a value and where its payload begins to the payload's JSON text and where the payload ends. May raise
`DecodeError`.
"""

GIVES_UP: Final = (DecodeError, IndexError, TypeError, ValueError, error)

# By the one byte that says how long a text is. None stands where that byte is no such length; it is refused
# by what takes it: `b"".join` here, an addition below.
_LENGTH: Final[tuple[bytes, ...]] = tuple(
    length(n >> 1) if 0 < n < 0x80 and not n & 1 else cast("bytes", None) for n in range(256)
)
_VERSION: Final = tuple(cell and length(4) + cell for cell in _LENGTH)
_JSON_HEADS: Final = tuple(json_head(size + 1, 1) for size in range(2048))


def _two_bytes(shift: int) -> list[int]:
    """The 14 bits in two bytes of a variable-length number that goes on after them, by the two bytes; halved,
    as zigzag doubles. What is odd would be a time before 1970.
    """
    table = [cast("int", None)] * 65_536
    for first in range(0x80, 0x100, 1 if shift else 2):
        for second in range(0x80, 0x100):
            table[first | second << 8] = (first & 0x7F | (second & 0x7F) << 7) << shift >> 1
    return table


_LOW, _MIDDLE = _two_bytes(0), _two_bytes(14)


class _High(dict[int, int]):
    """The upper half of an eight-byte time, by its bytes, with PostgreSQL's epoch taken off: it changes
    once in two minutes of event time.
    """

    def __missing__(self, word: int) -> int:
        a, b, c, d = word.to_bytes(4, "little")
        if a < 0x80 or b < 0x80 or c < 0x80 or d >= 0x80:
            raise ValueError
        if len(self) >= 4096:
            self.clear()
        bits = a & 0x7F | (b & 0x7F) << 7 | (c & 0x7F) << 14 | d << 21
        value = self[word] = (bits << 27) - POSTGRES_EPOCH
        return value


_HIGH = _High()
_time = Struct("<HHI").unpack_from


class _Metadata(dict[bytes, bytes]):
    """The metadata's cell by what stands on the wire, checked: most events of a topic carry the same few."""

    def __missing__(self, wire: bytes) -> bytes:
        size, at = _long_size(wire, 0)
        text = wire[at + 1 :]
        if len(text) << 1 != size:
            raise ValueError
        check_object(text, "metadata")
        cell = json_head(len(text) + 1, 1) + text
        if len(text) <= 256:
            if len(self) >= 1024:
                self.clear()
            self[wire] = cell
        return cell


class _Tenants(dict[bytes, str]):
    """One text for all events of a tenant."""

    def __missing__(self, name: bytes) -> str:
        if len(self) >= 1024:
            self.clear()
        text = self[name] = name.decode()
        return text


_METADATA, _TENANTS = _Metadata(), _Tenants()


def read_row(data: bytes, nested: NestedPayload | None) -> Row:  # noqa: C901 - calls would be half of it
    """The row of one value, framing included. `nested` reads a payload that is no JSON text."""
    raw_id = data[6:42]
    event_id = unhexlify(raw_id.replace(b"-", b""))
    if data[5] != 72 or raw_id[8:24:5] != b"----" or len(event_id) != 16:
        raise ValueError
    size = data[42]
    at = 43 + (size >> 1)
    type_length, event_type = _LENGTH[size], data[43:at]
    low, middle, high = _time(data, at)
    occurred = time_cell(8, _LOW[low] + _MIDDLE[middle] + _HIGH[high])
    at += 8
    if data[at] == 2:
        size = data[at + 1]
        end = at + 2 + (size >> 1)
        actor_type_length, actor_type = _LENGTH[size], data[at + 2 : end]
        at = end
    elif data[at]:
        raise ValueError
    else:
        actor_type_length, actor_type = NULL, b""
        at += 1
    if data[at] == 2:
        size = data[at + 1]
        end = at + 2 + (size >> 1)
        actor_id_length, actor_id = _LENGTH[size], data[at + 2 : end]
        at = end
    elif data[at]:
        raise ValueError
    else:
        actor_id_length, actor_id = NULL, b""
        at += 1
    size = data[at]
    end = at + 1 + (size >> 1)
    entity_length, entity = _LENGTH[size], data[at + 1 : end]
    size = data[end]
    at = end + 1 + (size >> 1)
    tenant_length, tenant = _LENGTH[size], data[end + 1 : at]
    if data[at] == 2:
        size = data[at + 1]
        end = at + 2 + (size >> 1)
        correlation_length, correlation = _LENGTH[size], data[at + 2 : end]
        at = end
    elif data[at]:
        raise ValueError
    else:
        correlation_length, correlation = _LENGTH[72], raw_id.lower()
        at += 1
    if data[at] == 2:
        size = data[at + 1]
        end = at + 2 + (size >> 1)
        causation_length, causation = _LENGTH[size], data[at + 2 : end]
        at = end
    elif data[at]:
        raise ValueError
    else:
        causation_length, causation = NULL, b""
        at += 1
    version = _VERSION[data[at]]
    at += 1
    if data[at] == 2:
        size = data[at + 1]
        end = at + 2 + (size >> 1)
        key_length, key = _LENGTH[size], data[at + 2 : end]
        at = end
    elif data[at]:
        raise ValueError
    else:
        key_length, key = _LENGTH[72], raw_id.lower()
        at += 1
    if data[at : at + 2] != b"\2\x20":  # there is a hash, of 16 bytes
        raise ValueError
    # In one piece, as a look costs a call; no field may hold a NUL.
    texts = b"".join((event_type, actor_type, actor_id, entity, tenant, correlation, causation, key))
    if 0 in texts:
        raise ValueError
    if not texts.isascii():
        for text in (event_type, actor_type, actor_id, entity, tenant, correlation, causation, key):
            text.decode()
    at += 18
    content_hash = data[at - 16 : at]
    if nested is not None:
        payload, at = nested(data, at)
    else:
        size = data[at]
        if size >= 0x80:
            if data[at + 1] < 0x80:  # 64 to 8,191 bytes
                at += 1
                size = size & 0x7F | data[at] << 7
            else:
                size, at = _long_size(data, at)
        end = at + 1 + (size >> 1)
        payload = data[at + 1 : end]
        check_object(payload, "payload")
        if size & 1:
            raise ValueError
        at = end
    size = len(payload)
    cells = b"".join((
        SIXTEEN, event_id, type_length, event_type, occurred, actor_type_length, actor_type,
        actor_id_length, actor_id, entity_length, entity, tenant_length, tenant,
        correlation_length, correlation, causation_length, causation, version, key_length, key,
        SIXTEEN, content_hash, _JSON_HEADS[size] if size < 2048 else json_head(size + 1, 1), payload,
        _METADATA[data[at:]],
    ))  # fmt: skip
    return (_TENANTS[tenant], key.decode()), content_hash, event_id, cells


def _long_size(data: bytes, at: int) -> tuple[int, int]:
    """A number of more than one byte, without its zigzag, and the position of its last byte."""
    value = shift = 0
    while data[at] >= 0x80:
        if shift > 28:  # no record is as long, and a number of a million bytes is quadratic work
            raise ValueError("a length without end")
        value |= (data[at] & 0x7F) << shift
        at += 1
        shift += 7
    return value | data[at] << shift, at
