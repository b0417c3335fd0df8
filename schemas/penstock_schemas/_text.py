"""Rules of text and JSON that hold for every event, so that PostgreSQL never refuses one."""

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

MAX_IDENTIFIER_BYTES = 1024
"""UTF-8 bytes of an identifier.

Two of them and a timestamp stay below a b-tree entry's limit of 2,704 bytes (PostgreSQL, nbtree).
"""

MAX_JSON_DEPTH = 200
"""Nesting of a payload. orjson stops at 1,024 and PostgreSQL at its stack; no real event comes near this."""

_encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

# Numbers that orjson may spell otherwise: with an exponent, so small that Python takes one, or minus zero.
_SPELT_OTHERWISE = re.compile(rb"[\[:,]-?(?:0\.0000|[0-9]+(?:\.[0-9]+)?e)|-0\.0[],}]")
_NO_FLOATS = frozenset({str, int, bool, type(None)})  # a look at these costs a third of one at the text
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.e0-9]+')  # a string or a number


def check_text(value: str) -> str:
    """Return `value`; raise ValueError where PostgreSQL's text would refuse it."""
    if "\0" in value:
        raise ValueError(
            "holds a NUL character (U+0000), which PostgreSQL's text cannot store; remove or escape it"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"holds a lone surrogate at character {error.start}, which is not Unicode text; "
            "decode its source properly"
        ) from None
    return value


def check_identifier(value: str) -> str:
    """Return `value`; raise ValueError where it is empty, too long to be indexed, or no storable text."""
    if value.isascii() and 0 < len(value) <= MAX_IDENTIFIER_BYTES and "\0" not in value:
        return value
    if not value:
        raise ValueError("is empty")
    size = len(check_text(value).encode())
    if size > MAX_IDENTIFIER_BYTES:
        raise ValueError(
            f"has {size} bytes in UTF-8, more than the {MAX_IDENTIFIER_BYTES} that an index takes"
        )
    return value


def canonical_json(value: Any) -> bytes:
    """The one text of a JSON value: `exact_json`, but floats of 1e16 and more as integers, minus zero as 0.0.

    jsonb keeps no other spelling of them, and what is read back must have the same text. Raises as that.
    """
    text = exact_json(value)
    return _TOKEN.sub(_as_jsonb_keeps, text) if b"e+" in text or b"-0.0" in text else text


def check_object(value: Mapping[str, Any]) -> None:
    """Raise as `canonical_json` of the object does, at a fifth of the price."""
    try:
        text = orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, half of a surrogate pair, a deep nesting
        text = b"null"
    # What orjson has other ideas about: NaN is null to it.
    if b"null" in text or may_hold_nul(text) or _may_be_deep(text):
        exact_json(value)


def exact_json(value: Any) -> bytes:
    """Text that reads as the same value: keys sorted by code point, no spaces, Python's shortest numbers,
    UTF-8. Integers of any size stay exact.

    Raises ValueError, naming the place, for what jsonb would refuse: NUL, lone surrogates, NaN, infinities,
    too deep a nesting.
    """
    try:
        text = _encoder.encode(value).encode()
    except (ValueError, RecursionError):
        _find_fault(value)
        raise
    # What follows is a quick look that only seldom needs the closer one.
    if may_hold_nul(text) or _may_be_deep(text):
        _find_fault(value)
    return text


def may_hold_nul(text: bytes) -> bool:
    """Whether a JSON text has what may be an escaped NUL. The look for one byte spares most that for six."""
    return b"\\" in text and b"\\u0000" in text


def _may_be_deep(text: bytes) -> bool:
    return len(text) > 2 * MAX_JSON_DEPTH and text.count(b"{") + text.count(b"[") > MAX_JSON_DEPTH


def _as_jsonb_keeps(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if text == b"-0.0":
        return b"0.0"
    if b"e+" not in text or text.startswith(b'"'):
        return text
    return str(int(Decimal(text.decode()))).encode()


def known_good_json(value: Mapping[str, Any]) -> bytes:
    """`canonical_json` of an object that it took before, at a fifth of the price."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer beyond 64 bits
        return canonical_json(value)
    if _NO_FLOATS.issuperset(map(type, value.values())) or _SPELT_OTHERWISE.search(text) is None:
        return text
    return canonical_json(value)


def _find_fault(value: Any, path: str = "", depth: int = 0) -> None:
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        _check_at(path, value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path or 'the value'} is {value}, which is not JSON; use null or a string")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_at(f"a key of {path or 'the object'}", key)
            _find_fault(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _find_fault(item, f"{path}[{index}]", depth + 1)


def _check_at(path: str, value: str) -> None:
    try:
        check_text(value)
    except ValueError as error:
        raise ValueError(f"{path or 'the value'} {error}") from None
