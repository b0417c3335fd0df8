"""What came of one load."""

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["BadLine", "End", "LoadSummary"]

SHOWN_BAD_LINES = 10


class End(StrEnum):
    """Where a load ended."""

    COMPLETE = "complete"
    LIMIT = "limit"
    STOPPED = "stopped"
    """At the first fault, as told."""
    BROKEN = "broken"
    """The file could not be read further."""
    UNAVAILABLE = "unavailable"
    """The producer could not take more: Kafka or the schema registry is away."""
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that did not become a delivered event."""

    number: int
    """Counted from 1."""
    reason: str


@dataclass(slots=True, kw_only=True)
class LoadSummary:
    """Counts. Every line read is blank, bad, emitted, failed, or (after an interruption) unanswered."""

    lines: int = 0
    blank: int = 0
    bad: int = 0
    emitted: int = 0
    """Acknowledged by Kafka; in a dry run: would be emitted."""
    failed: int = 0
    """Taken by the producer and not acknowledged."""
    unanswered: int = 0
    seconds: float = 0.0
    end: End = End.COMPLETE
    why: str = ""
    """What ended it early, for people."""
    shown: list[BadLine] = field(default_factory=list)
    """The first bad and failed lines."""

    def ended(self, end: End, why: str = "") -> None:
        """Keep where it ended."""
        self.end, self.why = end, why

    def note(self, number: int, reason: str) -> BadLine:
        """Keep a bad line to show where there is still room."""
        line = BadLine(number, reason)
        if len(self.shown) < SHOWN_BAD_LINES:
            self.shown.append(line)
        return line

    def as_json(self) -> dict[str, object]:
        """The object that `--json` prints."""
        rate = round(self.emitted / self.seconds, 1) if self.seconds > 0 else 0.0
        return {
            "lines": self.lines,
            "blank": self.blank,
            "bad": self.bad,
            "emitted": self.emitted,
            "failed": self.failed,
            "unanswered": self.unanswered,
            "seconds": round(self.seconds, 3),
            "events_per_second": rate,
            "end": self.end.value,
            "why": self.why,
            "bad_lines": [{"line": line.number, "reason": line.reason} for line in self.shown],
        }
