"""The workers: is what Kafka holds accounted for in PostgreSQL?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from penstock.books import Balance, Books
from penstock.doctor.report import Finding, failed, fine, warned
from penstock.kafka_view import Cluster, KafkaView, Topic
from penstock.settings import DatabaseRole, Settings
from penstock.tail import unread
from penstock.wording import counted
from penstock.worker import WorkerChoices, worker_settings
from penstock_consumer.errors import SourceFailed, SourceUnavailable
from penstock_consumer.placement import TRUNCATED

__all__ = ["examine_workers", "judge_losses"]

_NAME = "worker"
_OWNERS = """
SELECT count(*) AS claimed,
       count(*) FILTER (WHERE EXISTS (
           SELECT FROM pg_stat_activity a
           WHERE a.pid = owner_pid AND a.backend_start = owner_backend_start)) AS alive,
       coalesce(max(attempts), 0) AS attempts,
       count(*) FILTER (WHERE topic_id <> $4) AS foreign_topic
FROM penstock.offsets WHERE group_id = $1 AND cluster_id = $2 AND topic = $3
"""
_ACCEPT = "Restore the records if you can, or accept the loss: penstock worker --accept-loss {}"
_SUSPECT = 3  # claims without progress: the record at that position may be what ends the worker


async def examine_workers(
    settings: Settings, view: KafkaView, cluster: Cluster, topics: Sequence[Topic]
) -> list[Finding]:
    """For each topic: who owns its partitions, and how far behind they are."""
    findings: list[Finding] = []
    for topic in topics:
        async with Books(
            settings.database(DatabaseRole.READER),
            group_id=settings.group_id,
            cluster_id=cluster.cluster_id,
            topic=topic.name,
            timeout=settings.timeout_seconds,
        ) as books:
            balance = await books.balance()
        starts, ends = view.start_offsets(topic), view.end_offsets(topic)
        owners = await _owners(settings, cluster, topic)
        findings.append(_owned(topic, owners))
        findings.append(_lag(topic, _behind(settings, topic, balance, starts, ends), owners))
        findings.extend(judge_losses(topic, balance.positions, starts, ends))
        if owners["foreign_topic"]:
            detail = (
                f"{topic.name} was deleted and made again: its offsets in PostgreSQL are those of the old one"
            )
            findings.append(
                failed(_NAME, f"identity of {topic.name}", detail, _ACCEPT.format(f"{topic.name}:N"))
            )
        if owners["attempts"] >= _SUSPECT:
            detail = (
                f"topic {topic.name}: a partition was claimed {owners['attempts']} times without progress"
            )
            advice = "Look into the worker's log: the record at that position may end it each time"
            findings.append(warned(_NAME, f"progress of {topic.name}", detail, advice))
    return findings


def judge_losses(
    topic: Topic, positions: Mapping[int, int], starts: Mapping[int, int], ends: Mapping[int, int]
) -> Iterator[Finding]:
    """Partitions whose next offset the broker does not have: their worker has stopped them."""
    for number, position in sorted(positions.items()):
        advice = _ACCEPT.format(f"{topic.name}:{number}")
        check = f"losses of {topic.name}:{number}"
        if position < starts.get(number, 0):
            detail = f"offsets {position:,} to {starts[number] - 1:,} were deleted before they were ingested"
            yield failed(_NAME, check, detail, advice)
        elif position > ends.get(number, position):
            detail = (
                f"the partition ends at {ends[number]:,}, before the stored position {position:,}: truncated"
            )
            yield failed(_NAME, check, detail, TRUNCATED)


async def _owners(settings: Settings, cluster: Cluster, topic: Topic) -> Mapping[str, int]:
    timeout = settings.timeout_seconds
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        settings.database(), timeout=timeout, command_timeout=timeout
    )
    try:
        row = await connection.fetchrow(
            _OWNERS, settings.group_id, cluster.cluster_id, topic.name, topic.topic_id
        )
    finally:
        await connection.close(timeout=timeout)
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return dict(row)


def _owned(topic: Topic, owners: Mapping[str, int]) -> Finding:
    check = f"owners of {topic.name}"
    if owners["alive"] == 0:
        return warned(_NAME, check, "no worker owns a partition", "Start one: penstock worker")
    if owners["alive"] < topic.partitions:
        detail = f"{owners['alive']} of {topic.partitions} partitions have a worker"
        return warned(_NAME, check, detail, "Wait for the rebalance, then look into the worker's log")
    return fine(_NAME, check, f"all {topic.partitions} partitions have a worker")


def _behind(
    settings: Settings, topic: Topic, balance: Balance, starts: Mapping[int, int], ends: Mapping[int, int]
) -> int:
    workers = worker_settings(settings, WorkerChoices())
    try:
        left = unread(workers, topic.name, balance.positions, starts, ends, deadline=settings.timeout_seconds)
    except (SourceFailed, SourceUnavailable):  # may not be read from here: then offsets have to do
        return balance.behind(ends)
    return sum(left.values())


def _lag(topic: Topic, behind: int, owners: Mapping[str, int]) -> Finding:
    check = f"lag of {topic.name}"
    if behind == 0:
        return fine(_NAME, check, "everything in Kafka is accounted for in PostgreSQL")
    detail = f"{counted(behind, 'offset')} not accounted for yet"
    if owners["alive"] == 0:
        return failed(_NAME, check, f"{detail}, and no worker runs", "Start one: penstock worker")
    return fine(_NAME, check, f"{detail}; a worker is at it")
