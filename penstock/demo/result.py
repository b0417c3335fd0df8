"""What one run of the demo found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from penstock.books import Counts
from penstock_schemas import RecordedEvent

__all__ = ["DemoResult", "instant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Of this run only. `counts` are the outcomes of the offsets that this run wrote; entities, correlations,
    types and times are those of its events as read back. `seconds`: from the first event emitted to the last
    record accounted for in PostgreSQL.
    """

    source: str
    topic: str
    emitted: int
    counts: Counts
    entities: int
    correlations: int
    event_types: int
    first: datetime | None
    last: datetime | None
    seconds: float
    read: int
    read_seconds: float
    history: Sequence[RecordedEvent]
    problems: Sequence[str]
    notes: Sequence[str]

    def as_json(self) -> dict[str, object]:
        """The object of `penstock demo --json`; its keys are part of the interface."""
        return {
            "emitted": self.emitted,
            "stored": self.counts.stored,
            "duplicates": self.counts.duplicate,
            "conflicts": self.counts.conflict,
            "dead_letters": self.counts.dead_lettered,
            "entities": self.entities,
            "correlations": self.correlations,
            "event_types": self.event_types,
            "first": instant(self.first),
            "last": instant(self.last),
            "seconds": round(self.seconds, 3),
        }


def instant(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, in milliseconds where that is exact, else microseconds."""
    if at is None:
        return None
    exact = "milliseconds" if at.microsecond % 1000 == 0 else "microseconds"
    return at.astimezone(UTC).isoformat(timespec=exact).replace("+00:00", "Z")
