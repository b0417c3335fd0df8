"""Logical types: their JSON text, and back to the value on the wire.

Both directions refuse what does not round-trip.
"""

# A value of a wrong Python type is one more bad value here, hence ValueError (TRY004).

import re
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from penstock_schemas.errors import DecodeError, DecodeReason

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wire times count from it; the text says which zone
_EPOCH_DATE = date(1970, 1, 1)
_DURATION = struct.Struct("<III")

Convert = Callable[[Any], Any]

MAX_DECIMAL_DIGITS = 4_000
"""Python converts up to 4,300 digits (CVE-2020-10735): beyond that, text costs the square of its length."""
_MAX_DECIMAL_BYTES = 1_660

_TIMESTAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?)(?:\.(\d{1,9}))?(Z|z|[+-]\d{2}:?\d{2})?", re.ASCII
)
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?", re.ASCII)
_DURATION_TEXT = re.compile(r"P(\d{1,10})M(\d{1,10})DT(\d{1,7})\.(\d{3})S", re.ASCII)


def _outside(value: int, what: str) -> DecodeError:
    return DecodeError(DecodeReason.INVALID_FIELD, f"is {value}, which is outside {what}")


def _timestamp_text(value: int, per_second: int, suffix: str) -> str:
    seconds, fraction = divmod(value, per_second)
    try:
        whole = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise _outside(value, "the years 1 to 9999") from None
    digits = len(str(per_second)) - 1
    return f"{whole.isoformat()}.{fraction:0{digits}d}{suffix}"


def _time_text(value: int, per_second: int) -> str:
    if not 0 <= value < 86_400 * per_second:
        raise _outside(value, "one day")
    return _timestamp_text(value, per_second, "")[11:]


def _date_text(value: int) -> str:
    try:
        return (_EPOCH_DATE + timedelta(days=value)).isoformat()
    except OverflowError:
        raise _outside(value, "the years 1 to 9999") from None


def _duration_text(raw: bytes) -> str:
    months, days, milliseconds = _DURATION.unpack(raw)
    return f"P{months}M{days}DT{milliseconds // 1000}.{milliseconds % 1000:03d}S"


def decimal_text(raw: bytes, scale: int, precision: int) -> str:
    """An unscaled big-endian integer as decimal text, with exactly `scale` digits after the point."""
    if len(raw) > _MAX_DECIMAL_BYTES:
        raise _outside(len(raw), f"the {_MAX_DECIMAL_BYTES} bytes of a decimal")
    unscaled = int.from_bytes(raw, "big", signed=True)
    digits = str(abs(unscaled))
    if len(digits) > precision:
        raise DecodeError(
            DecodeReason.INVALID_FIELD, f"is a decimal of {len(digits)} digits; its schema allows {precision}"
        )
    sign = "-" if unscaled < 0 else ""
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def timestamp_value(value: object, per_second: int, suffix: str) -> int:
    """A time's text or datetime as units since the epoch. Raises ValueError; never rounds."""
    text = value.isoformat() if isinstance(value, datetime) else value
    match = _TIMESTAMP.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"is {value!r}; write a time as 2026-01-31T12:00:00.000000{suffix}")
    whole, fraction, zone = match.groups()
    if bool(suffix) is not bool(zone):
        advice = "say its time zone" if suffix else "this is a local time: leave the time zone out"
        raise ValueError(f"is {value!r}; {advice}")
    moment = datetime.fromisoformat(f"{whole}{zone or '+00:00'}").astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // timedelta(seconds=1) * per_second + _fraction(fraction, per_second, value)


def _fraction(digits: str | None, per_second: int, value: object) -> int:
    units, lost = divmod(int((digits or "").ljust(9, "0")), 1_000_000_000 // per_second)
    if lost:
        raise ValueError(
            f"is {value!r}, more precise than the schema's {len(str(per_second)) - 1} digits; round it"
        )
    return units


def time_value(value: object, per_second: int) -> int:
    text = value.isoformat() if isinstance(value, time) and value.tzinfo is None else value
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError(f"is {value!r}; write a time of day as 12:00:00.000000")
    return timestamp_value(f"1970-01-01T{text}", per_second, "")


def date_value(value: object) -> int:
    if isinstance(value, str):
        value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError(f"is {value!r}; write a date as 2026-01-31")  # noqa: TRY004
    return (value - _EPOCH_DATE).days


def decimal_value(value: object, scale: int, precision: int) -> int:
    """The unscaled integer of a decimal's text. Raises ValueError where digits would be lost."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"is {value!r}; write a decimal as text, for example '12.50'")  # noqa: TRY004
    try:
        sign, digits, exponent = Decimal(value).as_tuple()
    except InvalidOperation:
        raise ValueError(f"is {value!r}, which is no decimal number") from None
    if not isinstance(exponent, int):
        raise ValueError(f"is {value}, which is not a finite number")  # noqa: TRY004
    shift = exponent + scale
    text = "".join(map(str, digits)).lstrip("0") or "0"
    if text == "0":
        return 0
    if shift < 0 and text[shift:].strip("0"):
        raise ValueError(f"is {value}, more precise than the schema's {scale} decimal places; round it")
    if len(text) + shift > min(precision, MAX_DECIMAL_DIGITS):
        raise ValueError(f"is {value}, which has more digits than the schema's {precision}")
    unscaled = int(text + "0" * shift if shift >= 0 else text[:shift] or "0")
    return -unscaled if sign else unscaled


def duration_value(value: object) -> bytes:
    match = _DURATION_TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"is {value!r}; write a duration as P1M2DT3.000S (months, days, seconds)")
    months, days, seconds, milliseconds = map(int, match.groups())
    parts = (months, days, seconds * 1000 + milliseconds)
    if max(parts) >= 1 << 32:
        raise ValueError(f"is {value!r}; each part of a duration has 32 bits")
    return _DURATION.pack(*parts)


def _pairs(unit: str, per_second: int) -> dict[str, tuple[Convert, Convert]]:
    pairs: dict[str, tuple[Convert, Convert]] = {
        f"{prefix}timestamp-{unit}": (
            partial(_timestamp_text, per_second=per_second, suffix=suffix),
            partial(timestamp_value, per_second=per_second, suffix=suffix),
        )
        for prefix, suffix in (("", "Z"), ("local-", ""))
    }
    return pairs | {
        f"time-{unit}": (
            partial(_time_text, per_second=per_second),
            partial(time_value, per_second=per_second),
        )
    }


PAIRS: dict[str, tuple[Convert, Convert]] = {
    "date": (_date_text, date_value),
    "duration": (_duration_text, duration_value),
    "uuid": (lambda raw: str(uuid.UUID(bytes=raw)), lambda value: uuid.UUID(str(value)).bytes),
    **_pairs("millis", 1_000),
    **_pairs("micros", 1_000_000),
    **_pairs("nanos", 1_000_000_000),
}
"""(From the wire to JSON, back) of each logical type but decimal."""
