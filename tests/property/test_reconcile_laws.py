"""The arithmetic of a reconciliation: honest books balance, and no forged ones do."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock.books import Counts
from penstock.reconcile.verdict import Kept, Leaf, Ledger, Problem, examine, examine_leaf

OUTCOMES = ("stored", "duplicate", "conflict", "dead_lettered", "tombstone")


@dataclass(frozen=True)
class History:
    """What became of each offset below the position: an outcome, or a gap of Kafka's own (None)."""

    start: int
    offsets: tuple[str | None, ...]
    cuts: tuple[int, ...]
    """Where one range ends and the next begins."""
    waiting: int

    @property
    def position(self) -> int:
        return self.start + len(self.offsets)

    def ledger(self) -> Ledger:
        """The books, and what Kafka says of them."""
        edges = sorted({0, len(self.offsets), *(cut for cut in self.cuts if cut <= len(self.offsets))})
        ranges = [self._range(first, end) for first, end in pairwise(edges)]
        return Ledger(
            topic="t",
            partition=0,
            low=self.start,
            high=self.position + self.waiting,
            position=self.position,
            ranges=ranges,
            records={item.first: item.counts.total for item in ranges},
            letters=self.offsets.count("dead_lettered"),
        )

    def _range(self, first: int, end: int) -> Kept:
        part = self.offsets[first:end]
        counts = Counts(**{name: part.count(name) for name in OUTCOMES})
        return Kept(first=self.start + first, next=self.start + end, counts=counts, expired=False)


HISTORIES = st.builds(
    History,
    start=st.integers(0, 50),
    offsets=st.lists(st.none() | st.sampled_from(OUTCOMES), min_size=1, max_size=60).map(tuple),
    cuts=st.lists(st.integers(1, 60), max_size=6).map(tuple),
    waiting=st.integers(0, 9),
)


@given(HISTORIES)
def test_honest_books_balance_and_every_offset_is_in_one_column(history: History) -> None:
    line = examine(history.ledger())
    assert line.problems == {}
    assert line.waiting == history.waiting
    assert line.first + line.counts.total + line.gaps + line.unverified + line.waiting == line.high
    assert (line.gaps, line.unverified) == (history.offsets.count(None), 0)


@given(HISTORIES)
def test_gaps_that_nobody_counted_are_no_problem_and_are_not_called_kafka_s(history: History) -> None:
    line = examine(replace(history.ledger(), records={}))
    assert line.problems == {}
    assert (line.gaps, line.unverified) == (0, history.offsets.count(None))


@given(HISTORIES, st.data())
def test_a_range_that_is_gone_from_the_books_is_missed(history: History, data: st.DataObject) -> None:
    ledger = history.ledger()
    index = data.draw(st.integers(0, len(ledger.ranges) - 1))
    lacking = [item for place, item in enumerate(ledger.ranges) if place != index]
    assert Problem.MISSING in examine(replace(ledger, ranges=lacking)).problems
    gone = replace(ledger, ranges=lacking, low=history.position, high=history.position)
    if index or (len(ledger.ranges) > 1 and lacking[0].first < ledger.ranges[index].first):
        assert Problem.VANISHED in examine(gone).problems


@given(HISTORIES, st.data())
def test_one_outcome_more_or_less_is_noticed(history: History, data: st.DataObject) -> None:
    ledger = history.ledger()
    index = data.draw(st.integers(0, len(ledger.ranges) - 1))
    item = ledger.ranges[index]
    name = data.draw(st.sampled_from(OUTCOMES))
    count = getattr(item.counts, name)
    by = -1 if item.counts.total == item.width else 1
    if count + by < 0:
        return
    ranges = list(ledger.ranges)
    ranges[index] = replace(item, counts=replace(item.counts, **{name: count + by}))
    problems = examine(replace(ledger, ranges=ranges)).problems
    assert (Problem.UNACCOUNTED if by < 0 else Problem.SURPLUS) in problems
    compacted = examine(replace(ledger, ranges=ranges, compacted=True)).problems
    assert (Problem.UNACCOUNTED in compacted) is (by < 0)


@given(HISTORIES, st.integers(1, 60))
def test_overlapping_ranges_are_noticed(history: History, more: int) -> None:
    ledger = history.ledger()
    last = ledger.ranges[-1]
    longer = [*ledger.ranges[:-1], replace(last, next=last.next + more)]
    assert Problem.OVERLAP in examine(replace(ledger, ranges=longer)).problems
    twice = [last, *ledger.ranges]
    assert (
        Problem.OVERLAP in examine(replace(ledger, ranges=sorted(twice, key=lambda one: one.first))).problems
    )


@given(HISTORIES, st.integers(1, 9))
def test_what_kafka_lost_is_told_from_what_the_books_lack(history: History, by: int) -> None:
    ledger = history.ledger()
    expired = replace(ledger, low=history.position + by, high=history.position + by)
    assert examine(expired).problems.keys() == {Problem.EXPIRED}
    assert Problem.TRUNCATED in examine(replace(ledger, high=history.position - 1)).problems
    assert examine(replace(ledger, recreated=True)).problems.keys() == {Problem.RECREATED}


@given(HISTORIES, st.integers(1, 30))
def test_accepted_losses_are_accounted_for(history: History, width: int) -> None:
    ledger = history.ledger()
    end = history.position
    loss = Kept(first=end, next=end + width, counts=Counts(lost=width), expired=False)
    high = end + width + history.waiting
    later = replace(
        ledger,
        ranges=[*ledger.ranges, loss],
        position=end + width,
        low=end + width,
        high=high,
        records={},
    )
    line = examine(later)
    assert line.problems == {}
    assert line.counts.lost == width


@given(HISTORIES, st.integers(0, 60), st.booleans())
def test_dead_letters_may_be_more_but_not_fewer(history: History, letters: int, known: bool) -> None:
    ledger = replace(history.ledger(), letters=letters if known else None)
    wanted = known and letters < history.offsets.count("dead_lettered")
    assert (Problem.DEAD_LETTERS in examine(ledger).problems) is wanted


@given(st.integers(0, 9), st.none() | st.integers(0, 9))
def test_a_partition_of_events_holds_at_least_what_the_books_say(stored: int, rows: int | None) -> None:
    leaf = Leaf(name="events_1", state="current", stored=stored, rows=rows)
    assert bool(examine_leaf(leaf)) is (rows is not None and rows < stored)
    assert leaf.beside == max(0, (rows or 0) - stored)


def test_counts_add_up() -> None:
    one = Counts(stored=1, duplicate=2, conflict=3, dead_lettered=4, tombstone=5, lost=6)
    assert (one + one).total == 2 * one.total
    assert one + one - one == one
    assert {item.name for item in fields(Counts)} == {*OUTCOMES, "lost"}
