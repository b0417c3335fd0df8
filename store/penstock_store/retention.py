"""Retention: what a policy says about each partition (pure), and carrying it out (`run`).

Whole partitions expire, by `recorded_at` alone: the store's own clock, which no producer can set. Later
policies (a count of events, rules over type, tags or tenant) are further `ExpiryRule`s, a legal hold is a
`Hold`, and an archive is a step of `run` between closing and dropping; `plan` stays the one place that
decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from penstock_store._retention_run import RetentionReport, run
from penstock_store.partitions import Partition, PartitionState

__all__ = [
    "Action",
    "Decision",
    "ExpireByAge",
    "ExpiryRule",
    "Hold",
    "RetentionPlan",
    "RetentionPolicy",
    "RetentionReport",
    "plan",
    "run",
]

_MOST_AHEAD: Final = 400  # what penstock.ensure_partitions() makes in one call


class ExpiryRule(Protocol):
    """Says which partitions a policy no longer needs. Pure."""

    def expired(self, closed: Sequence[Partition], now: datetime) -> Mapping[str, str]:
        """Names out of `closed` (oldest first), each with the reason for people."""
        ...


class Hold(Protocol):
    """Says which partitions must stay whatever the rules say. Pure."""

    def held(self, closed: Sequence[Partition], now: datetime) -> Mapping[str, str]:
        """Names out of `closed`, each with the reason for people."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireByAge:
    """Everything that was recorded more than `days` ago."""

    days: float

    def __post_init__(self) -> None:
        if not 0 < self.days <= 36_525:
            raise ValueError(f"days to retain must be more than 0 and at most 36,525; got {self.days!r}.")

    def expired(self, closed: Sequence[Partition], now: datetime) -> Mapping[str, str]:
        """Those whose youngest possible event is older: `upper` is exclusive."""
        edge = now - timedelta(days=self.days)
        reason = f"recorded before {edge:%Y-%m-%d %H:%M:%S}Z, {self.days:g} days ago"
        return {partition.name: reason for partition in closed if partition.upper <= edge}


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupeWindow:
    """The idempotency keys of the last `window` are still asked for: without their rows duplicates would be
    stored.
    """

    window: timedelta

    def held(self, closed: Sequence[Partition], now: datetime) -> Mapping[str, str]:
        """Those that reach into the window."""
        return {
            partition.name: f"holds keys of the dedupe window ({self.window})"
            for partition in closed
            if partition.upper > now - self.window
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The default keeps everything for ever: nothing expires unless something says so."""

    retain_days: float | None = None
    rules: tuple[ExpiryRule, ...] = ()
    holds: tuple[Hold, ...] = ()
    dedupe_window: timedelta = timedelta(hours=24)  # the workers': a partition is kept at least that long
    ahead: int = 3  # partitions to have ready after the present one

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.dedupe_window <= timedelta(days=366):
            raise ValueError(f"dedupe_window must be from 0 to 366 days; got {self.dedupe_window!r}.")
        if not 1 <= self.ahead <= _MOST_AHEAD:
            raise ValueError(f"ahead must be from 1 to {_MOST_AHEAD} partitions; got {self.ahead!r}.")
        self.all_rules()

    def all_rules(self) -> tuple[ExpiryRule, ...]:
        """`rules`, and the one that `retain_days` stands for."""
        if self.retain_days is None:
            return self.rules
        return (ExpireByAge(days=self.retain_days), *self.rules)

    def all_holds(self) -> tuple[Hold, ...]:
        """`holds`, and the dedupe window."""
        return (DedupeWindow(window=self.dedupe_window), *self.holds)


class Action(StrEnum):
    """What becomes of a partition."""

    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One partition, what becomes of it, and why."""

    partition: str
    lower: datetime
    upper: datetime
    state: PartitionState
    rows: int | None  # None: not counted yet
    action: Action
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """What `run` will do, in this order: make, roll, close, drop. Showing it is the dry run."""

    at: datetime
    decisions: tuple[Decision, ...]  # one for each partition that exists, oldest first
    close: tuple[str, ...]  # rolled away, but without figures and constraints yet
    roll: bool  # the current partition's time is over and no writer has rolled it
    ahead: int  # partitions to have after that of now
    missing: int  # how many of them do not exist yet

    @property
    def drop(self) -> tuple[Decision, ...]:
        """The decisions that drop."""
        return tuple(decision for decision in self.decisions if decision.action is Action.DROP)


def plan(existing: Sequence[Partition], policy: RetentionPolicy, now: datetime) -> RetentionPlan:
    """What `policy` says at `now` (aware) about the partitions that `partitions.list_partitions` returned.
    Pure.

    Only closed partitions can be dropped. A hold wins over every rule.
    """
    there = sorted((p for p in existing if p.state is not PartitionState.DROPPED), key=lambda p: p.lower)
    closed = [p for p in there if p.state is PartitionState.CLOSED]
    expired: dict[str, str] = {}
    for rule in reversed(policy.all_rules()):
        expired.update(rule.expired(closed, now))
    held: dict[str, str] = {}
    for hold in reversed(policy.all_holds()):
        held.update(hold.held(closed, now))
    current = next((p for p in there if p.state is PartitionState.CURRENT), None)
    edge = now if current is None else max(now, current.lower)
    return RetentionPlan(
        at=now,
        decisions=tuple(_decide(p, expired, held, endless=not policy.all_rules()) for p in there),
        close=tuple(p.name for p in closed if p.sealed_at is None),
        roll=current is None or current.upper <= now,
        ahead=policy.ahead,
        missing=max(0, policy.ahead - sum(p.lower > edge for p in there)),
    )


def _decide(
    partition: Partition, expired: Mapping[str, str], held: Mapping[str, str], *, endless: bool
) -> Decision:
    action = Action.KEEP
    if partition.state is PartitionState.CURRENT:
        reason = "being written to"
    elif partition.state is PartitionState.FUTURE:
        reason = "made ahead of time"
    elif partition.name not in expired:
        reason = "kept for ever: no rule expires anything" if endless else "not expired"
    elif partition.name in held:
        reason = held[partition.name]
    else:
        action, reason = Action.DROP, expired[partition.name]
    return Decision(
        partition=partition.name,
        lower=partition.lower,
        upper=partition.upper,
        state=partition.state,
        rows=partition.rows,
        action=action,
        reason=reason,
    )
