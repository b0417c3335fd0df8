"""Offsets and records as people write them on a command line."""

import re
from typing import Final

__all__ = ["parse_offsets", "parse_record"]

_OFFSETS: Final = re.compile(r"(\d{1,19})|(\d{1,19})?:(\d{1,19})?", re.ASCII)
_RECORD: Final = re.compile(r"([A-Za-z0-9._-]{1,249}):(\d{1,9})@(\d{1,19})", re.ASCII)


def parse_offsets(text: str) -> tuple[int | None, int | None]:
    """The first offset and the first that is not meant any more; None where it is open.

    One offset (`17`), or a span without its end (`100:200`, `100:`, `:200`). Raises `ValueError`.
    """
    found = _OFFSETS.fullmatch(text.strip())
    if found is None or text.strip() == ":":
        raise ValueError(
            f"{text!r} is no offset and no span. Write 17; or 100:200, 100: or :200, without the end"
        )
    if found[1] is not None:
        return int(found[1]), int(found[1]) + 1
    first, stop = (None if part is None else int(part) for part in (found[2], found[3]))
    if first is not None and stop is not None and first >= stop:
        raise ValueError(f"{text!r} holds no offset: the first has to be below the end")
    return first, stop


def parse_record(text: str) -> tuple[str, int, int]:
    """Topic, partition and offset of `topic:partition@offset`, as logs and lists write it. Raises
    `ValueError`.
    """
    found = _RECORD.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} names no record. Write topic:partition@offset, such as orders:0@17")
    return found[1], int(found[2]), int(found[3])
