"""Types without parts: from the wire's value to the JSON form, and back. Pairs of (to_json, write)."""

import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from penstock_schemas import _avro_bytes as avro
from penstock_schemas._avro_bytes import LAST_SMALL, SMALL, long
from penstock_schemas._avro_schema import Type
from penstock_schemas._logical import PAIRS, Convert, decimal_text, decimal_value
from penstock_schemas.errors import DecodeError, DecodeReason

Write = Callable[[Any, bytearray], Any]
"""Appends the encoding of a JSON form, or of the Python object that it stands for, and returns the JSON form.

Raises ValueError or OverflowError; what was appended until then is no value.
"""
Pair = tuple[Convert | None, Write]


class BadValue(ValueError):
    """A value does not fit its type; `path` leads to it from the outermost value."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path

    @classmethod
    def under(cls, step: str, fault: Exception) -> "BadValue":
        """The fault of a part, seen from the whole."""
        path = fault.path if isinstance(fault, cls) else ""
        joint = "." if step and path and not path.startswith("[") else ""
        return cls(str(fault), f"{step}{joint}{path}")


def wrong(wanted: str, value: object) -> BadValue:
    """The value is not what is wanted."""
    return BadValue(f"is {value!r:.80} ({type(value).__name__}), not {wanted}")


def text(value: Any) -> str:
    if type(value) is str:
        return value
    value = value.value if isinstance(value, Enum) else str(value) if isinstance(value, Decimal) else value
    if not isinstance(value, str):
        raise wrong("a string", value)
    return value.encode().decode()  # of a subclass, plain; raises for half of a surrogate pair


def _string(value: Any, out: bytearray) -> str:
    plain = value if type(value) is str else text(value)
    raw = plain.encode()
    size = len(raw)
    out += SMALL[size] if size < LAST_SMALL else long(size)
    out += raw
    return plain


def _null(value: Any, out: bytearray) -> None:
    if value is not None:
        raise wrong("null", value)


def _to_boolean(raw: bytes) -> bool:
    if raw > b"\1":
        raise DecodeError(DecodeReason.MALFORMED, f"has the byte {raw.hex()}, which is no boolean")
    return raw == b"\1"


def _boolean(value: Any, out: bytearray) -> bool:
    if not isinstance(value, bool):
        raise wrong("a boolean", value)
    out.append(value)
    return value


def _to_int(value: int) -> int:
    if not -(1 << 31) <= value < 1 << 31:
        raise DecodeError(DecodeReason.MALFORMED, f"has an int of more than 32 bits, {value}")
    return value


def _integer(bits: int) -> Write:
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1

    def write(value: Any, out: bytearray) -> int:
        if type(value) is not int:
            if not isinstance(value, int) or isinstance(value, bool):
                raise wrong("an integer", value)
            value = int(value)
        if not least <= value <= most:
            raise BadValue(f"is {value}, which does not fit into {bits} bits; declare it as a decimal")
        out += long(value)
        return value  # type: ignore[no-any-return]

    return write


def _to_finite(value: float) -> float:
    if not isfinite(value):
        raise DecodeError(DecodeReason.NOT_FINITE, f"is {value}, which is not JSON")
    return value


def _floating(layout: struct.Struct) -> Write:
    def write(value: Any, out: bytearray) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong("a number", value)
        if not isfinite(value):
            raise BadValue(f"is {value}, which is not JSON; use null, or a string type")
        try:
            raw = layout.pack(value)
            made: float | None = layout.unpack(raw)[0]
        except (OverflowError, struct.error):
            raw, made = b"", None
        if made is None or made != value:
            raise BadValue(f"is {value!r}, which {layout.size} bytes of floating point do not hold exactly")
        out += raw
        return made

    return write


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")


def _raw(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, str):
        raise wrong("bytes as base64 text", value)
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise BadValue(f"is not base64: {error}") from None


def _bytes(value: Any, out: bytearray) -> str:
    raw = _raw(value)
    out += avro.sized(raw)
    return _base64(raw)


def fixed(size: int) -> Pair:
    def write(value: Any, out: bytearray) -> str:
        raw = _raw(value)
        if len(raw) != size:
            raise BadValue(f"has {len(raw)} bytes, not {size}")
        out += raw
        return _base64(raw)

    return _base64, write


def enum(symbols: tuple[str, ...]) -> Pair:
    known = {symbol: (symbol, long(index)) for index, symbol in enumerate(symbols)}

    def to_json(index: int) -> str:
        if not 0 <= index < len(symbols):
            raise DecodeError(DecodeReason.MALFORMED, f"has the enum symbol {index} of {len(symbols)}")
        return symbols[index]

    def write(value: Any, out: bytearray) -> str:
        symbol = value.value if isinstance(value, Enum) else value
        if not isinstance(symbol, str) or symbol not in known:
            raise BadValue(f"is {value!r:.80}, not one of {', '.join(symbols)}")
        name, index = known[symbol]
        out += index
        return name

    return to_json, write


def decimal(kind: Type) -> Pair:
    scale, precision = kind.scale, kind.precision

    def to_wire(value: Any) -> bytes:
        unscaled = decimal_value(value, scale, precision)
        magnitude = unscaled if unscaled >= 0 else ~unscaled
        size = kind.size if kind.kind == "fixed" else magnitude.bit_length() // 8 + 1
        try:
            return unscaled.to_bytes(size, "big", signed=True)
        except OverflowError:
            raise BadValue(f"is {value}, which does not fit into {kind.size} bytes") from None

    return _by_wire(
        lambda raw: decimal_text(raw, scale, precision),
        to_wire,
        bytes if kind.kind == "fixed" else avro.sized,
    )


def _by_wire(to_json: Convert, to_wire: Convert, encode: Callable[[Any], bytes]) -> Pair:
    def write(value: Any, out: bytearray) -> Any:
        wire = to_wire(value)
        out += encode(wire)
        return to_json(wire)

    return to_json, write


def _uuid_text(value: Any, out: bytearray) -> str:
    return _string(str(value) if isinstance(value, UUID) else value, out)


PRIMITIVES: dict[str, Pair] = {
    "null": (None, _null),
    "boolean": (_to_boolean, _boolean),
    "int": (_to_int, _integer(32)),
    "long": (None, _integer(64)),
    "float": (_to_finite, _floating(struct.Struct("<f"))),
    "double": (_to_finite, _floating(struct.Struct("<d"))),
    "bytes": (_base64, _bytes),
    "string": (None, _string),
}
_FIXED = ("duration", "uuid")
LOGICAL: dict[str, Pair] = {
    **{name: _by_wire(*pair, bytes if name in _FIXED else long) for name, pair in PAIRS.items()},
    "string": (None, _uuid_text),
}
"""All but decimal. A UUID in a string is text on the wire already: kept as its writer spelt it."""


def scalar(kind: Type) -> Pair:
    """The pair of a type without parts."""
    if kind.kind == "enum":
        return enum(kind.symbols)
    if kind.logical == "decimal":
        return decimal(kind)
    if kind.logical:
        return LOGICAL["string" if kind.kind == "string" else kind.logical]
    return fixed(kind.size) if kind.kind == "fixed" else PRIMITIVES[kind.kind]
