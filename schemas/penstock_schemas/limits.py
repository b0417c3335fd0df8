"""How much of a hostile schema or record is looked at before it is refused."""

import re
from dataclasses import dataclass

from penstock_schemas.errors import UnsupportedSchema

__all__ = ["DecodeLimits", "check_schema_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Bounds of decoding. What is beyond one of them is refused with a reason; nothing is cut short.

    The defaults are far above what real events need and far below what hurts a process: a schema is compiled
    once, a record's cost is linear in its bytes (see `values_per_byte`).
    """

    max_schema_bytes: int = 1 << 20
    """UTF-8 bytes of a schema's text."""
    max_schema_nesting: int = 160
    """Open brackets in a schema's text. A record inside a record takes four."""
    max_type_depth: int = 64
    """Types inside types, also by reference: bounds the decoder's recursion."""
    max_fixed_values: int = 10_000
    """Values that a record has without a byte on the wire (nulls, empty records, by reference)."""
    values_per_byte: int = 16
    """Values that one byte of an array's or map's items may become.

    Refuses zero-width items (`array<null>`) and their disguises.
    """
    max_record_bytes: int = 16 << 20
    """Bytes of a record's value. Kafka's default limit of a message is 1 MiB."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"DecodeLimits.{name} is {getattr(self, name)}; it has to be at least 1")


# A JSON string or one bracket. The closing quote is optional: no scan is ever repeated, on no text.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def check_schema_text(text: str, limits: DecodeLimits | None = None) -> None:
    """Raise `UnsupportedSchema` where a schema's text is too long or nested too deep for a recursive parser.

    Parsers of Avro schemas recurse (some without a limit, until the process dies): call this before any of
    them sees a foreign text.
    """
    limits = limits or DecodeLimits()
    size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    if size > limits.max_schema_bytes:
        raise UnsupportedSchema(
            f"the schema has {size} bytes, more than the limit of {limits.max_schema_bytes}"
            " (max_schema_bytes)"
        )
    depth = nesting(text)
    if depth > limits.max_schema_nesting:
        raise UnsupportedSchema(
            f"the schema's text is nested {depth} brackets deep, more than the limit of"
            f" {limits.max_schema_nesting} (max_schema_nesting)"
        )


def nesting(text: str) -> int:
    """The greatest number of brackets open at once in a JSON text, found without recursion."""
    depth = deepest = 0
    for match in _TOKEN.finditer(text):
        char = text[match.start()]
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest
