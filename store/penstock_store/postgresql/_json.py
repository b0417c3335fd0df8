"""JSON of the store, read fast and without loss."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

__all__ = ["loader_for"]

# orjson is four times as fast as the standard library and turns whole numbers beyond 64 bits into floats.
# Such a number has 19 digits or more: one translated scan of a whole chunk (0.1 µs a row) finds out that
# there is none. Hashes and long ids have them too, as text, so what was found is looked at once more.
_AS_DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_LONG: Final = b"0" * 19
_LONG_NUMBER: Final = re.compile(r"[\[\s:,-]\d{19}")  # in a text, digits rarely follow one of these
_MOST_DIGITS: Final = 4_300  # Python's own limit on converting text to int


def loader_for(texts: Iterable[str]) -> Callable[[str], Any]:
    """The fastest function that reads each of `texts` exactly. They are objects, as jsonb writes them.

    Whole numbers of any size stay exact; beyond 4,300 digits they come as text. Fractions are floats.
    """
    return _careful if _has_long("\n".join(texts)) else orjson.loads


def _has_long(text: str) -> bool:
    return _LONG in text.encode().translate(_AS_DIGITS)


def _careful(text: str) -> Any:
    return _exact(text) if _has_long(text) and _LONG_NUMBER.search(text) else orjson.loads(text)


def _exact(text: str) -> Any:
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits
