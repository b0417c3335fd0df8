"""Points in time as people write them on a command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["EXAMPLES", "parse_when"]

EXAMPLES: Final = (
    "Write a time ago, such as 90s, 15m, 1h30m, 7d or 2w; or a time, such as 2026-01-31, 2026-01-31T10:00 "
    "(both UTC) or 2026-01-31T10:00:00+02:00."
)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)


def parse_when(text: str, now: datetime) -> datetime:
    """That long before `now`, or an ISO 8601 time (UTC where it names no zone). Raises `ValueError` with
    examples.
    """
    wanted = text.strip()
    try:
        if _AGO.fullmatch(wanted):
            return now - sum(
                (timedelta(**{_UNITS[unit]: float(n)}) for n, unit in _PART.findall(wanted)), timedelta()
            )
        at = datetime.fromisoformat(wanted)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time. {EXAMPLES}") from None
