"""What the figures of a partition come to: pure arithmetic, no I/O.

Every offset is in one of these: *accounted* (a record with one outcome), *gap* (Kafka itself has no record
there), *waiting* (the worker has not come to it), or there is a problem, which is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from penstock.books import Counts
from penstock.wording import counted
from penstock_store.ingest.segments import IngestedRange, Kind, divide

__all__ = ["Kept", "Leaf", "Ledger", "Line", "Problem", "Reconciliation", "examine", "examine_leaf"]


class Problem(StrEnum):
    """What is wrong, by a fixed word."""

    MISSING = "missing"
    """Passed by the worker, in no range of the books; the broker has the offsets."""
    VANISHED = "vanished"
    """The same, and the broker has them no longer."""
    UNACCOUNTED = "unaccounted"
    """Kafka has more records in a range than the books have outcomes."""
    SURPLUS = "surplus"
    """The books have more outcomes in a range than Kafka has records, and nothing removes any there."""
    OVERLAP = "overlap"
    """Two ranges account for one offset, or one lies beyond the worker's position."""
    DEAD_LETTERS = "dead_letters"
    """The books have more dead letters than the dead-letter topic."""
    ROWS = "rows"
    """The store holds fewer events than the books say."""
    EXPIRED = "expired"
    """Deleted by Kafka before the worker came to them: an operator must decide."""
    TRUNCATED = "truncated"
    """The log ends before the worker's position."""
    RECREATED = "recreated"
    """The books are those of a topic of this name that was deleted."""
    UNKNOWN_GROUP = "unknown_group"
    """The group that was asked for has no position in any partition of the topic."""


LOSSES = frozenset({Problem.EXPIRED, Problem.TRUNCATED, Problem.RECREATED})
"""What Kafka lost: for an operator to decide, whatever the books say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A row of `penstock.ingested`."""

    first: int
    next: int
    counts: Counts
    expired: bool
    """Retention dropped the partition of its events."""

    @property
    def width(self) -> int:
        """Offsets of the range."""
        return self.next - self.first

    @property
    def gap(self) -> int:
        """Offsets without an outcome: as far as the books know, Kafka's own."""
        return self.width - self.counts.total

    @property
    def as_range(self) -> IngestedRange:
        """For `divide`."""
        return IngestedRange(self.first, self.next, self.expired, self.counts.lost == self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What is known of one partition before it is examined."""

    topic: str
    partition: int
    low: int
    """The first offset that the broker has; `high` the next that it will give."""
    high: int
    position: int | None
    """The group's worker's, None where it has none."""
    ranges: Sequence[Kept]
    """Ascending; all of them, or all from one on."""
    whole: bool = True
    """Whether `ranges` are all."""
    recreated: bool = False
    """The books are another topic's."""
    stranger: bool = False
    """The group was asked for by name, and has no position in any partition of the topic."""
    records: Mapping[int, int] = field(default_factory=dict)
    """How many records Kafka has in a range, by its first offset, where they were counted."""
    compacted: bool = False
    waiting: int | None = None
    """Records beyond the position, where they were counted."""
    letters: int | None = None
    """Dead letters of these ranges in the dead-letter topic, conflicts left out; None: cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The verdict on one partition."""

    topic: str
    partition: int
    first: int
    """The first offset that was looked at."""
    position: int | None
    low: int
    high: int
    counts: Counts
    gaps: int
    """Offsets at which Kafka itself has no record: compaction, transaction markers. Counted there."""
    unverified: int
    """Gaps that nobody counted: the broker has them no longer, or there is too much to read."""
    waiting: int
    letters: int | None
    problems: Mapping[Problem, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One partition of `penstock.events`."""

    name: str
    state: str
    stored: int
    """By the books of all groups."""
    rows: int | None
    """Events in it, or that it had when it was closed or dropped; None where nobody counted them."""
    sealed: int | None = None
    """Events that it had when it was closed; None before."""
    counted: bool = True
    """Whether `rows` was counted for this reconciliation."""

    @property
    def trusted(self) -> bool:
        """Whether the figure of a closed partition that is still there stands for its events."""
        return self.rows is not None and not self.counted and self.state != "dropped"

    @property
    def beside(self) -> int:
        """Events that came without Kafka: appended, imported."""
        return max(0, (self.rows or 0) - self.stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Everything that was looked at."""

    at: datetime
    group: str
    lines: Sequence[Line]
    leaves: Sequence[Leaf]
    notes: Sequence[str] = ()

    @property
    def problems(self) -> Sequence[tuple[str, Problem, str]]:
        """(where, what, in words)."""
        found = [
            (f"{line.topic}:{line.partition}", problem, said)
            for line in self.lines
            for problem, said in line.problems.items()
        ]
        rows = [(leaf.name, Problem.ROWS, said) for leaf in self.leaves if (said := examine_leaf(leaf))]
        return found + rows

    @property
    def balanced(self) -> bool:
        """Whether every offset that was passed has its outcome, and the store holds what it should."""
        return not self.problems

    @property
    def lost(self) -> bool:
        """Whether Kafka lost records."""
        return any(problem in LOSSES for _, problem, _ in self.problems)

    @property
    def waiting(self) -> int:
        """Records that the workers have not come to."""
        return sum(line.waiting for line in self.lines)


def examine(ledger: Ledger) -> Line:
    """Balance one partition."""
    ranges = list(ledger.ranges)
    start = ledger.low if ledger.position is None else ledger.position
    first = min((item.first for item in ranges), default=start)
    if ledger.whole:
        first = min(first, ledger.low)
    gaps, unverified, problems = _gaps(ledger)
    problems |= _cover(ledger, first)
    counts = sum((item.counts for item in ranges), Counts())
    if ledger.letters is not None and ledger.letters < counts.dead_lettered:
        problems[Problem.DEAD_LETTERS] = (
            f"{counts.dead_lettered:,} dead letters in the books, {ledger.letters:,} in the dead-letter topic"
        )
    ahead = ledger.high - max(start, ledger.low)
    waiting = max(0, ahead) if ledger.waiting is None else ledger.waiting
    if ledger.stranger and waiting:
        problems[Problem.UNKNOWN_GROUP] = "no worker of the group ever had it; is --group spelt right?"
    return Line(
        topic=ledger.topic,
        partition=ledger.partition,
        first=first,
        position=ledger.position,
        low=ledger.low,
        high=ledger.high,
        counts=counts,
        gaps=gaps,
        unverified=unverified,
        waiting=waiting,
        letters=ledger.letters,
        problems=problems,
    )


def examine_leaf(leaf: Leaf) -> str | None:
    """What is wrong with it, in words."""
    if leaf.rows is None:
        return None
    if leaf.sealed is not None and leaf.rows < leaf.sealed:
        return f"holds {counted(leaf.rows, 'event')}, it held {leaf.sealed:,} when it was closed"
    if leaf.rows >= leaf.stored:
        return None
    return f"holds {counted(leaf.rows, 'event')}, the books say {leaf.stored:,} were stored in it"


def _gaps(ledger: Ledger) -> tuple[int, int, dict[Problem, str]]:
    """Those that Kafka confirmed, those that nobody counted, and what does not fit."""
    known = unverified = more = fewer = 0
    for item in ledger.ranges:
        records = ledger.records.get(item.first)
        if records is None:
            unverified += item.gap
            continue
        outcomes = item.counts.total
        known += item.width - max(records, outcomes)
        more += max(0, records - outcomes)
        fewer += max(0, outcomes - records)
    problems = {}
    if more:
        problems[Problem.UNACCOUNTED] = f"{counted(more, 'record')} in Kafka have no outcome in the books"
    if fewer and not ledger.compacted:
        problems[Problem.SURPLUS] = f"the books have {counted(fewer, 'outcome')} more than Kafka has records"
    return known, unverified, problems


def _cover(ledger: Ledger, first: int) -> dict[Problem, str]:
    """What the ranges leave open, or hold twice."""
    if ledger.recreated:
        return {Problem.RECREATED: "the topic was made anew, and its books are the old one's"}
    problems = {}
    ranges, position = ledger.ranges, ledger.position
    ends = [0, *(item.next for item in ranges)]
    if any(item.first < end for item, end in zip(ranges, ends, strict=False)) or ends[-1] > (position or 0):
        problems[Problem.OVERLAP] = "ranges of the books overlap, or lie beyond the worker's position"
    if position is not None and position > ledger.high:
        problems[Problem.TRUNCATED] = f"the log ends at {ledger.high}, before the position {position}"
    elif position is not None and position < ledger.low:
        problems[Problem.EXPIRED] = (
            f"offsets {position} to {ledger.low - 1} were deleted by the topic's retention before they were "
            "ingested"
        )
    found = divide(
        first,
        max(first, position or first),
        [item.as_range for item in ranges],
        position=position,
        low=ledger.low,
    )
    widths = {kind: sum(one.width for one in found if one.kind is kind) for kind in Kind}
    lost = sum(item.width for item in ranges if item.as_range.lost)
    vanished = widths[Kind.GONE] + widths[Kind.SKIPPED] - lost
    if widths[Kind.MISSING]:
        where = next(one for one in found if one.kind is Kind.MISSING)
        problems[Problem.MISSING] = (
            f"{counted(widths[Kind.MISSING], 'offset')} below the position in no range, from {where.first} "
            "on; `penstock replay run` reads them"
        )
    if vanished > 0:
        problems[Problem.VANISHED] = (
            f"{counted(vanished, 'offset')} below the position in no range, and Kafka has them no longer"
        )
    return problems
