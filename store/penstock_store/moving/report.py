"""What a copy is told and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CopyPlan", "CopyProgress", "CopyReport", "OnProgress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """What a copy would do now. Nothing was changed."""

    source_events: int  # counted by reading them all
    to_copy: int  # of those, after the place where the target stands
    target_events: int  # as the target's own figures say
    after_sequence: int  # of the source: where the copy would begin
    keeps_sequences: bool  # as far as can be told now
    from_start_because_mixed: bool  # the target's newest event is not of the source: keys would decide

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyProgress:
    """Of a copy under way, after each batch. Counts are of this run."""

    stored: int
    duplicates: int
    position: int  # the source's sequence up to which everything is in the target
    start: int  # where this run began
    end: int  # the source's newest sequence; more may come

    @property
    def done(self) -> float:
        """From 0 to 1, by sequence."""
        return (
            min(1.0, (self.position - self.start) / (self.end - self.start)) if self.end > self.start else 1.0
        )


OnProgress = Callable[[CopyProgress], object]


@dataclass(slots=True, kw_only=True)
class CopyReport:
    """What a copy did."""

    stored: int = 0
    duplicates: int = 0  # already in the target
    conflicts: int = 0  # left out: the target holds their key or id for something else
    sequences_kept: int = 0  # of `stored`
    times_kept: int = 0  # of `stored`, with their recorded_at
    start: int = 0  # the source's sequence after which it began
    position: int = 0  # the source's sequence up to which everything is in the target
    seconds: float = 0.0

    @property
    def read(self) -> int:
        """Events of the source that were looked at."""
        return self.stored + self.duplicates + self.conflicts

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        rate = round(self.stored / self.seconds, 1) if self.seconds > 0 else 0.0
        return {**asdict(self), "seconds": round(self.seconds, 3), "events_per_second": rate}
