"""Types without parts: from the wire's value to the JSON form, and back. Pairs of (to_json, from_json)."""

import struct
from base64 import b64decode, b64encode
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from penstock_schemas._avro_schema import Type
from penstock_schemas._logical import PAIRS, Convert, Pair, decimal_text, decimal_value
from penstock_schemas.errors import DecodeError, DecodeReason


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
    if type(value) is str and value.isascii():
        return value
    value = value.value if isinstance(value, Enum) else str(value) if isinstance(value, Decimal) else value
    if not isinstance(value, str):
        raise wrong("a string", value)
    if not value.isascii():
        value.encode()  # raises for half of a surrogate pair
    return value


def _null(value: Any) -> None:
    if value is not None:
        raise wrong("null", value)


def _to_boolean(raw: bytes) -> bool:
    if raw > b"\1":
        raise DecodeError(DecodeReason.MALFORMED, f"has the byte {raw.hex()}, which is no boolean")
    return raw == b"\1"


def _from_boolean(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise wrong("a boolean", value)
    return b"\1" if value else b"\0"


def _to_int(value: int) -> int:
    if not -(1 << 31) <= value < 1 << 31:
        raise DecodeError(DecodeReason.MALFORMED, f"has an int of more than 32 bits, {value}")
    return value


def _integer(bits: int) -> Convert:
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1

    def from_json(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong("an integer", value)
        if not least <= value <= most:
            raise BadValue(f"is {value}, which does not fit into {bits} bits; declare it as a decimal")
        return int(value)

    return from_json


def _to_finite(value: float) -> float:
    if not isfinite(value):
        raise DecodeError(DecodeReason.NOT_FINITE, f"is {value}, which is not JSON")
    return value


def _floating(layout: struct.Struct) -> Convert:
    def from_json(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong("a number", value)
        if not isfinite(value):
            raise BadValue(f"is {value}, which is not JSON; use null, or a string type")
        try:
            made: float = layout.unpack(layout.pack(value))[0]
        except (OverflowError, struct.error):
            made = 0
        if made != value:
            raise BadValue(f"is {value!r}, which {layout.size} bytes of floating point do not hold exactly")
        return made

    return from_json


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


def fixed(size: int) -> Pair:
    def from_json(value: Any) -> bytes:
        raw = _raw(value)
        if len(raw) != size:
            raise BadValue(f"has {len(raw)} bytes, not {size}")
        return raw

    return _base64, from_json


def enum(symbols: tuple[str, ...]) -> Pair:
    positions = {symbol: index for index, symbol in enumerate(symbols)}

    def to_json(index: int) -> str:
        if not 0 <= index < len(symbols):
            raise DecodeError(DecodeReason.MALFORMED, f"has the enum symbol {index} of {len(symbols)}")
        return symbols[index]

    def from_json(value: Any) -> int:
        symbol = value.value if isinstance(value, Enum) else value
        if not isinstance(symbol, str) or symbol not in positions:
            raise BadValue(f"is {value!r:.80}, not one of {', '.join(symbols)}")
        return positions[symbol]

    return to_json, from_json


def decimal(kind: Type) -> Pair:
    scale, precision = kind.scale, kind.precision

    def from_json(value: Any) -> bytes:
        unscaled = decimal_value(value, scale, precision)
        magnitude = unscaled if unscaled >= 0 else ~unscaled
        size = kind.size if kind.kind == "fixed" else magnitude.bit_length() // 8 + 1
        try:
            return unscaled.to_bytes(size, "big", signed=True)
        except OverflowError:
            raise BadValue(f"is {value}, which does not fit into {kind.size} bytes") from None

    return lambda raw: decimal_text(raw, scale, precision), from_json


PRIMITIVES: dict[str, Pair] = {
    "null": (None, _null),
    "boolean": (_to_boolean, _from_boolean),
    "int": (_to_int, _integer(32)),
    "long": (None, _integer(64)),
    "float": (_to_finite, _floating(struct.Struct("<f"))),
    "double": (_to_finite, _floating(struct.Struct("<d"))),
    "bytes": (_base64, _raw),
    "string": (None, text),
}
LOGICAL = PAIRS | {
    "string": (None, lambda v: text(v) if isinstance(v, str) else text(str(v) if isinstance(v, UUID) else v))
}
"""All but decimal. A UUID in a string is text on the wire already: kept as its writer spelt it."""
