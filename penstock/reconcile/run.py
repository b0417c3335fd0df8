"""The reconciliation: PostgreSQL first, then the broker, whose offsets only grow meanwhile."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from penstock.errors import InputError
from penstock.kafka_view import KafkaView, Topic
from penstock.reconcile.books import Entry, Snapshot, take
from penstock.reconcile.verdict import Kept, Ledger, Line, Reconciliation, examine
from penstock.replay.database import connected
from penstock.settings import DatabaseRole, Settings
from penstock.tail import unread
from penstock.wording import counted
from penstock.worker import WorkerChoices, worker_settings
from penstock_consumer import WorkerSettings
from penstock_consumer.bounded import Ends, read
from penstock_consumer.dlq import DeadLetterQueue, Place

__all__ = ["Progress", "Scope", "reconcile"]

Progress = Callable[[int, int], None]

_COUNT_OFFSETS = 1_000_000
"""Of a topic: so many are read again at most to tell gaps from missing records, in a few seconds."""
_CONFLICTS = frozenset({"key_conflict", "event_id_taken"})
"""Causes of dead letters that are conflicts in the books; a policy decides whether they have any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is looked at; topics and group are the settings'."""

    since: datetime | None = None
    """Only ranges that were written to since then, as a whole."""
    named: bool = False
    """The group was given for this run: one that has nothing to do with a topic is a mistake."""
    deep: bool = False
    """Count everything, whatever it costs: events of every partition, records of every range with gaps."""


def _unheard(_done: int, _whole: int) -> None:
    pass


async def reconcile(
    settings: Settings, scope: Scope | None = None, *, progress: Progress = _unheard
) -> Reconciliation:
    """Balance the books of the settings' group and topics. Read only.

    Raises `ServerUnavailableError`, `InputError` where Kafka lacks a topic, `SourceUnavailable`,
    `SourceFailed` and asyncpg's errors where PostgreSQL refuses.
    """
    scope = scope or Scope()
    now = datetime.now(UTC)
    view = KafkaView(settings.kafka(), timeout=settings.timeout_seconds)
    cluster = await asyncio.to_thread(view.cluster)
    topics = {name: await asyncio.to_thread(_topic, view, name) for name in settings.topics}
    async with connected(settings.database(DatabaseRole.READER), settings.timeout_seconds) as connection:
        snapshot = await take(
            connection,
            group_id=settings.group_id,
            cluster_id=cluster.cluster_id,
            topics=list(topics),
            since=scope.since,
            deep=scope.deep,
        )
    workers = worker_settings(settings, WorkerChoices())
    ledgers, notes = [], _notes(snapshot)
    for topic in topics.values():
        found, said = await asyncio.to_thread(_ledgers, view, workers, topic, snapshot, scope, progress)
        ledgers += found
        notes += said
    lines = [examine(ledger) for ledger in ledgers]
    return Reconciliation(
        at=now,
        group=settings.group_id,
        lines=lines,
        leaves=snapshot.leaves,
        notes=notes + _unplaced(settings.group_id, lines),
    )


def _topic(view: KafkaView, name: str) -> Topic:
    topic = view.topic(name)
    if topic is None:
        raise InputError(f"Kafka has no topic {name}: there is nothing to hold the books against.")
    return topic


def _notes(snapshot: Snapshot) -> list[str]:
    notes = []
    if uncounted := [leaf.name for leaf in snapshot.leaves if leaf.rows is None]:
        notes.append(f"The events of {', '.join(uncounted)} were not counted: too many. --deep counts them.")
    # of a dropped one the figure is all that there is
    if trusted := [leaf.name for leaf in snapshot.leaves if leaf.trusted]:
        through = f" ({trusted[0]} to {trusted[-1]})" if len(trusted) > 1 else f" ({trusted[0]})"
        notes.append(
            f"The events of {counted(len(trusted), 'closed partition')}{through} were not counted now: the "
            "figure from when each was closed stands, and PostgreSQL's statistics know of no deletion since "
            "(a crash of the server or pg_stat_reset() would have emptied those). --deep counts them."
        )
    return notes


def _unplaced(group: str, lines: Sequence[Line]) -> list[str]:
    left = [line for line in lines if line.position is None and line.waiting and not line.problems]
    names = [f"{line.topic}:{line.partition}" for line in left]
    if not names:
        return []
    return [
        f"No worker of group {group} has a position in {', '.join(names)}: nothing of it can be balanced. A "
        "worker reads it from the start (`penstock worker`), where the group is spelt right."
    ]


def _ledgers(
    view: KafkaView,
    workers: WorkerSettings,
    topic: Topic,
    snapshot: Snapshot,
    scope: Scope,
    progress: Progress,
) -> tuple[list[Ledger], list[str]]:
    lows, highs = view.start_offsets(topic), view.end_offsets(topic)
    own = {number: _own(snapshot, topic, number) for number in range(topic.partitions)}
    records = _count_records(workers, topic, own, lows, scope, progress)
    letters, notes = _count_letters(workers, topic, own, progress)
    ledgers = []
    known = {
        number: snapshot.positions.get(Entry(topic.name, number), (topic.topic_id, None)) for number in own
    }
    positions = {number: position for number, (_, position) in known.items() if position is not None}
    waiting = unread(workers, topic.name, positions, lows, highs)
    for number, (topic_id, position) in known.items():
        ledgers.append(
            Ledger(
                topic=topic.name,
                partition=number,
                low=lows[number],
                high=highs[number],
                position=position,
                ranges=own[number],
                whole=scope.since is None,
                recreated=topic_id != topic.topic_id,
                stranger=scope.named and not positions,
                records=records[number],
                compacted="compact" in topic.config.get("cleanup.policy", ""),
                waiting=waiting[number],
                letters=None if letters is None else letters[number],
            )
        )
    return ledgers, notes


def _own(snapshot: Snapshot, topic: Topic, number: int) -> list[Kept]:
    """Ranges of this topic, not of a namesake that was deleted."""
    every = snapshot.ranges.get(Entry(topic.name, number), ())
    return [item for topic_id, item in every if topic_id == topic.topic_id]


def _count_records(
    workers: WorkerSettings,
    topic: Topic,
    own: Mapping[int, Sequence[Kept]],
    lows: Mapping[int, int],
    scope: Scope,
    progress: Progress,
) -> dict[int, dict[int, int]]:
    """Records by partition and range, of ranges with gaps that the broker still has as a whole.

    Without a gap every offset has its outcome, and there is nothing to find out.
    """
    found: dict[int, dict[int, int]] = {number: {} for number in own}
    left = None if scope.deep else _COUNT_OFFSETS
    for number, ranges in own.items():
        for item in ranges:
            if not item.gap or item.first < lows[number] or (left is not None and item.width > left):
                continue
            left = None if left is None else left - item.width
            found[number][item.first] = _records(workers, topic, {number: (item.first, item.next)}, progress)
    return found


def _records(workers: WorkerSettings, topic: Topic, ends: Ends, progress: Progress) -> int:
    count = 0
    whole = sum(stop - first for first, stop in ends.values())
    for some in read(workers, topic.name, ends):
        count += len(some)
        progress(count, whole)
    return count


def _count_letters(
    workers: WorkerSettings, topic: Topic, own: Mapping[int, Sequence[Kept]], progress: Progress
) -> tuple[Counter[int] | None, list[str]]:
    """Dead letters by partition that the ranges account for, each record once; None where the dead-letter
    topic no longer holds all that it was given.
    """
    if not any(item.counts.dead_lettered for ranges in own.values() for item in ranges):
        return Counter(), []
    queue = DeadLetterQueue(workers, topic.name, progress=progress)
    found: Counter[int] = Counter()
    for place, cause in queue.places(workers.group_id):
        if cause not in _CONFLICTS and _within(place, topic, own.get(place.partition, ())):
            found[place.partition] += 1
    if queue.expired:
        return None, [
            f"{queue.name} holds its first {counted(queue.expired, 'offset')} no more: its dead letters "
            "cannot be held against the books."
        ]
    return found, []


def _within(place: Place, topic: Topic, ranges: Sequence[Kept]) -> bool:
    if place.topic != topic.name or place.topic_id not in ("", topic.topic_id):
        return False
    index = bisect_right(ranges, place.offset, key=lambda item: item.first) - 1
    return index >= 0 and place.offset < ranges[index].next
