"""Whether a JSON text is an object that PostgreSQL's jsonb takes; and where it is not, why."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import orjson

from penstock_schemas._text import MAX_JSON_DEPTH, canonical_json
from penstock_schemas.errors import DecodeError, DecodeReason
from penstock_schemas.limits import nesting

# As a number: of bytes `in` first makes an error, six times the look's cost.
_BACKSLASH: Final = ord("\\")
# \u0000 after an even number of backslashes is a NUL; after an odd number it is six plain characters.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def check_object(text: bytes, field: str) -> None:
    """Raise `DecodeError` where `text` is no JSON object, too deep, or holds what jsonb refuses.

    Costs one parse (orjson also checks UTF-8 and surrogates); the rest is done only where a quick look gives
    cause.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _explain(text, field, error) from None
    if type(value) is not dict:
        raise DecodeError(DecodeReason.INVALID_JSON, f"{field}: is JSON, but not an object")
    if _BACKSLASH in text and _ESCAPED_NUL.search(text):
        raise DecodeError(
            DecodeReason.NUL, f"{field}: holds \\u0000, which PostgreSQL cannot store; remove or escape it"
        )
    if len(text) > 2 * MAX_JSON_DEPTH and text.count(b"{") + text.count(b"[") > MAX_JSON_DEPTH:
        depth = nesting(text.decode())
        if depth > MAX_JSON_DEPTH:
            raise DecodeError(
                DecodeReason.TOO_DEEP, f"{field}: is nested {depth} levels deep; {MAX_JSON_DEPTH} are allowed"
            )


def canonical_text(text: bytes) -> bytes:
    """The canonical form of a text that `check_object` let pass, equal to that of what jsonb makes of it."""
    return canonical_json(json.loads(text, parse_float=_number))


def _number(text: str) -> int | float:
    """jsonb keeps the digits behind the point, less what the exponent moves before it; where none is left it
    holds an integer, exactly.
    """
    if "e" not in text and "E" not in text:
        return float(text)
    value = Decimal(text)
    if int(value.as_tuple().exponent) < 0:
        return float(text)
    return int(value) if value else 0  # the exponent of a zero may be of any size


def _explain(text: bytes, field: str, error: ValueError) -> DecodeError:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as fault:
        return DecodeError(
            DecodeReason.INVALID_UTF8, f"{field}: is not UTF-8 at byte {fault.start}: {fault.reason}"
        )
    if nesting(decoded) > MAX_JSON_DEPTH:
        return DecodeError(DecodeReason.TOO_DEEP, f"{field}: is nested deeper than {MAX_JSON_DEPTH} levels")
    constants: list[str] = []
    try:
        lenient = json.loads(decoded, parse_constant=constants.append, parse_float=_overflow_to(constants))
    except ValueError:
        return DecodeError(DecodeReason.INVALID_JSON, f"{field}: is not JSON: {error}")
    if constants:
        return DecodeError(
            DecodeReason.NOT_FINITE, f"{field}: holds {constants[0]:.40}, which is no JSON number"
        )
    try:
        json.dumps(lenient, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return DecodeError(
            DecodeReason.SURROGATE, f"{field}: holds half of a surrogate pair, which is not Unicode text"
        )
    return DecodeError(DecodeReason.INVALID_JSON, f"{field}: is not JSON: {error}")


def _overflow_to(found: list[str]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            found.append(text)
        return value

    return parse
