"""Laws of retention planning: what a plan may never do, whatever the partitions, the policy and the hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_store.partitions import Partition, PartitionState
from penstock_store.retention import RetentionPlan, RetentionPolicy, plan

_START = datetime(2026, 1, 1, tzinfo=UTC)


def _partition(
    index: int, lower: datetime, width: timedelta, state: PartitionState, *, sealed: bool
) -> Partition:
    nothing = dict.fromkeys(
        ("rows", "first_sequence", "last_sequence", "first_recorded_at", "last_recorded_at")
    )
    return Partition(
        name=f"events_{index}",
        lower=lower,
        upper=lower + width,
        state=state,
        indexes=("full",),
        created_at=lower,
        closed_at=None,
        sealed_at=lower + width if sealed else None,
        dropped_at=None,
        first_occurred_at=_START - timedelta(days=9_000),  # the producers' clocks do not count
        last_occurred_at=_START + timedelta(days=9_000),
        **nothing,
    )


@st.composite
def _histories(draw: st.DrawFn) -> list[Partition]:
    """Dropped, closed, current, future: in that order, without overlaps, of any widths; any of them may be
    none.
    """
    states = (
        [PartitionState.DROPPED] * draw(st.integers(0, 2))
        + [PartitionState.CLOSED] * draw(st.integers(0, 8))
        + [PartitionState.CURRENT] * draw(st.integers(0, 1))
        + [PartitionState.FUTURE] * draw(st.integers(0, 4))
    )
    lower, partitions = _START, []
    for index, state in enumerate(states):
        width = timedelta(minutes=draw(st.integers(1, 3_000)))
        partitions.append(_partition(index, lower, width, state, sealed=draw(st.booleans())))
        lower += width + timedelta(minutes=draw(st.sampled_from([0, 0, 500])))
    return draw(st.permutations(partitions))


def _dropped(made: RetentionPlan) -> set[str]:
    return {decision.partition for decision in made.drop}


_NOWS = st.integers(-1_000, 40_000).map(lambda minutes: _START + timedelta(minutes=minutes))
_POLICIES = st.builds(
    RetentionPolicy,
    retain_days=st.none() | st.floats(0.001, 30),
    dedupe_window=st.integers(0, 72).map(lambda hours: timedelta(hours=hours)),
    ahead=st.integers(1, 10),
)


@given(_histories(), _POLICIES, _NOWS)
def test_only_what_is_closed_expired_and_out_of_the_window_is_dropped(
    partitions: list[Partition], policy: RetentionPolicy, now: datetime
) -> None:
    dropped = {decision.partition for decision in plan(partitions, policy, now).drop}
    keep = max(timedelta(days=policy.retain_days or 0), policy.dedupe_window)
    assert dropped == {
        partition.name
        for partition in partitions
        if policy.retain_days is not None
        and partition.state is PartitionState.CLOSED
        and partition.upper <= now - keep
    }


@given(_histories(), _POLICIES, _NOWS, st.integers(0, 50_000))
def test_what_is_dropped_now_is_dropped_later(
    partitions: list[Partition], policy: RetentionPolicy, now: datetime, minutes: int
) -> None:
    later = plan(partitions, policy, now + timedelta(minutes=minutes))
    assert _dropped(plan(partitions, policy, now)) <= _dropped(later)


@given(_histories(), _NOWS)
def test_without_a_policy_nothing_is_dropped(partitions: list[Partition], now: datetime) -> None:
    assert plan(partitions, RetentionPolicy(), now).drop == ()


@given(_histories(), _POLICIES, _NOWS)
def test_every_partition_has_one_decision_with_a_reason(
    partitions: list[Partition], policy: RetentionPolicy, now: datetime
) -> None:
    made = plan(partitions, policy, now)
    there = [p for p in partitions if p.state is not PartitionState.DROPPED]
    assert [d.partition for d in made.decisions] == [p.name for p in sorted(there, key=lambda p: p.lower)]
    assert all(decision.reason for decision in made.decisions)
    assert set(made.close) == {
        p.name for p in there if p.state is PartitionState.CLOSED and p.sealed_at is None
    }
    assert 0 <= made.missing <= policy.ahead


@given(_histories(), _POLICIES, _NOWS)
def test_carrying_a_plan_out_leaves_nothing_to_drop(
    partitions: list[Partition], policy: RetentionPolicy, now: datetime
) -> None:
    names = _dropped(plan(partitions, policy, now))
    after = [replace(p, state=PartitionState.DROPPED) if p.name in names else p for p in partitions]
    assert plan(after, policy, now).drop == ()


@dataclass(frozen=True)
class _Named:
    names: frozenset[str]

    def held(self, closed: Sequence[Partition], now: datetime) -> Mapping[str, str]:
        return dict.fromkeys(self.names, "held")

    def expired(self, closed: Sequence[Partition], now: datetime) -> Mapping[str, str]:
        return dict.fromkeys(self.names, "named")


@given(_histories(), _POLICIES, _NOWS, st.frozensets(st.sampled_from([f"events_{n}" for n in range(15)])))
def test_a_hold_wins_over_every_rule(
    partitions: list[Partition], policy: RetentionPolicy, now: datetime, names: frozenset[str]
) -> None:
    held = plan(partitions, replace(policy, holds=(_Named(names),)), now)
    assert _dropped(held) == _dropped(plan(partitions, policy, now)) - names


@given(_histories(), _NOWS, st.frozensets(st.sampled_from([f"events_{n}" for n in range(15)])))
def test_a_rule_cannot_drop_what_is_not_closed(
    partitions: list[Partition], now: datetime, names: frozenset[str]
) -> None:
    policy = RetentionPolicy(rules=(_Named(names),), dedupe_window=timedelta(0))
    closed = {p.name for p in partitions if p.state is PartitionState.CLOSED and p.upper <= now}
    assert _dropped(plan(partitions, policy, now)) == names & closed


@given(_histories(), _POLICIES, _NOWS)
def test_rolling_is_due_exactly_when_the_current_partition_is_over(
    partitions: list[Partition], policy: RetentionPolicy, now: datetime
) -> None:
    current = [p for p in partitions if p.state is PartitionState.CURRENT]
    assert plan(partitions, policy, now).roll == (not current or current[0].upper <= now)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retain_days": 0},
        {"retain_days": -1},
        {"retain_days": float("nan")},
        {"retain_days": 40_000},
        {"ahead": 0},
        {"ahead": 401},
        {"dedupe_window": timedelta(seconds=-1)},
    ],
)
def test_a_wrong_policy_is_refused_when_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetentionPolicy(**wrong)  # type: ignore[arg-type]
