"""JSON of the store, read fast and without loss."""

import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

__all__ = ["load_objects"]

# orjson is four times as fast as the standard library and turns whole numbers beyond 64 bits into floats.
# Such a number has 19 digits or more: one translated scan of a whole chunk (0.1 µs a row) finds out that
# there is none. Hashes and long ids have them too, as text: those follow other characters than numbers do.
_AS_DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_LONG: Final = b"0" * 19
_BEFORE_A_NUMBER: Final = frozenset(b"[ \t\n\r:,-")
_MOST_DIGITS: Final = 4_300  # Python's own limit on converting text to int


def load_objects(texts: Sequence[str]) -> list[Any]:
    """The value of each text; they are objects, as jsonb writes them. One look at all of them together costs
    less than one at each.

    Whole numbers of any size stay exact; beyond 4,300 digits they come as text. Fractions are floats.
    """
    together = ",".join(texts).encode()
    if _has_long_number(together):
        return [_exact(text) if _has_long_number(text.encode()) else orjson.loads(text) for text in texts]
    loaded: list[Any] = orjson.loads(b"[%b]" % together)
    return loaded


def _has_long_number(raw: bytes) -> bool:
    """None may be there all the same: a text such as "at 1234567890123456789" counts."""
    digits = raw.translate(_AS_DIGITS)
    start = digits.find(_LONG)
    while start >= 0:
        if start == 0 or raw[start - 1] in _BEFORE_A_NUMBER:
            return True
        start = digits.find(_LONG, digits.find(b" ", start))
    return False


def _exact(text: str) -> Any:
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits
