"""Retention carried out on a real server, under its own login, while readers and writers are at it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History, random_event
from penstock_store.partitions import PartitionState, list_partitions
from penstock_store.retention import RetentionPlan, RetentionPolicy, plan, run

_EVENTS = 10  # in each partition
_POLICY = RetentionPolicy(retain_days=2, dedupe_window=timedelta(hours=1), ahead=3)

if TYPE_CHECKING:
    Link = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def history(database: Database) -> AsyncIterator[History]:
    """Six closed partitions, the last two of which are not sealed, and a current one."""
    connection = await asyncpg.connect(database.url, timeout=10)
    made, rng = History(connection), random.Random(4)
    await made.start()
    for number in range(6):
        await made.append([random_event(rng) for _ in range(_EVENTS)])
        await made.roll(seal=number < 4)
    await made.append([random_event(rng) for _ in range(_EVENTS)])
    yield made
    await connection.close(timeout=5)


@pytest.fixture
async def link(database: Database) -> AsyncIterator[Link]:
    """The retention login's connection."""
    connection = await asyncpg.connect(database.retention_url, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def _sleepless(_seconds: float) -> None:
    await asyncio.sleep(0)


async def _planned(link: Link, policy: RetentionPolicy, now: datetime) -> RetentionPlan:
    return plan(await list_partitions(link), policy, now)


async def _there(history: History) -> set[int]:
    return {row["sequence"] for row in await history.connection.fetch("SELECT sequence FROM penstock.events")}


async def _later(link: Link, kept: int) -> datetime:
    """A time at which all closed partitions but the last `kept` are past two days of age."""
    closed = [p for p in await list_partitions(link) if p.state is PartitionState.CLOSED]
    return closed[-1 - kept].upper + timedelta(days=2)


@pytest.mark.parametrize("kept", [0, 2, 5])
async def test_what_is_expired_goes_and_nothing_else(history: History, link: Link, kept: int) -> None:
    now = await _later(link, kept)
    decided = await _planned(link, _POLICY, now)
    report = await run(decided, link, sleep=_sleepless)
    assert report.failed == {}
    assert list(report.dropped.values()) == [_EVENTS] * (6 - kept)
    assert set(report.closed) == set(decided.close)
    assert await _there(history) == {event.sequence for event in history.events[(6 - kept) * _EVENTS :]}
    again = await _planned(link, _POLICY, now)
    assert (again.drop, again.close) == ((), ())


async def test_the_default_drops_nothing_and_makes_partitions_ahead(history: History, link: Link) -> None:
    report = await run(
        await _planned(link, RetentionPolicy(ahead=5), datetime.now(UTC)), link, sleep=_sleepless
    )
    assert report.dropped == {}
    assert report.failed == {}
    assert report.made
    current = next(p for p in await list_partitions(link) if p.state is PartitionState.CURRENT)
    ahead = [p for p in await list_partitions(link) if p.lower > current.lower]
    assert len(ahead) == 5
    assert (await _planned(link, RetentionPolicy(ahead=5), datetime.now(UTC))).missing == 0
    assert len(await _there(history)) == 7 * _EVENTS


async def test_an_idle_store_is_rolled_so_that_its_last_events_can_expire(
    database: Database, link: Link
) -> None:
    owner = await asyncpg.connect(database.url, timeout=10)
    await owner.execute("UPDATE penstock.settings SET partition_interval = '1 second'")
    history = History(owner)
    await history.start()
    await history.append([random_event(random.Random(1))])
    for _ in range(2):  # the first run rolls, the second finds what the roll closed
        current = next(p for p in await list_partitions(link) if p.state is PartitionState.CURRENT)
        while datetime.now(UTC) < current.upper:
            await owner.execute("SELECT pg_sleep(0.05)")
        report = await run(await _planned(link, RetentionPolicy(), datetime.now(UTC)), link)
        assert report.rolled
    assert "events_" in report.closed[0]
    await owner.close(timeout=5)


async def test_a_partition_that_is_being_read_is_tried_again(
    database: Database, history: History, link: Link
) -> None:
    reader = await asyncpg.connect(database.reader_url, timeout=10)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT count(*) FROM penstock.events")  # its lock lasts until the transaction ends
    waits: list[float] = []

    async def give_way(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            await transaction.rollback()

    report = await run(await _planned(link, _POLICY, await _later(link, 5)), link, sleep=give_way)
    assert report.failed == {}
    assert len(report.dropped) == 1
    assert waits == [1.0, 2.0]
    await reader.close(timeout=5)


async def test_a_lock_that_stays_is_reported_and_nothing_is_lost(
    database: Database, history: History, link: Link
) -> None:
    reader = await asyncpg.connect(database.reader_url, timeout=10)
    await reader.execute("BEGIN")
    await reader.fetch("SELECT count(*) FROM penstock.events")
    decided = await _planned(link, _POLICY, await _later(link, 5))
    report = await run(decided, link, attempts=2, sleep=_sleepless)
    assert report.dropped == {}
    assert "lock timeout" in report.failed[decided.drop[0].partition]
    assert len(await _there(history)) == 7 * _EVENTS
    await reader.execute("ROLLBACK")
    report = await run(decided, link, attempts=2, sleep=_sleepless)
    assert list(report.dropped.values()) == [_EVENTS]
    await reader.close(timeout=5)


async def test_writers_do_not_queue_behind_a_drop_that_waits(
    database: Database, history: History, link: Link
) -> None:
    """`lock_timeout` bounds how long anything stands behind the drop."""
    reader = await asyncpg.connect(database.reader_url, timeout=10)
    await reader.execute("BEGIN")
    await reader.fetch("SELECT count(*) FROM penstock.events")
    decided = await _planned(link, _POLICY, await _later(link, 5))
    dropping = asyncio.create_task(run(decided, link, attempts=2, sleep=_sleepless))
    rng = random.Random(77)
    for _ in range(5):
        await asyncio.wait_for(history.append([random_event(rng)]), timeout=20)
    await dropping
    await reader.execute("ROLLBACK")
    await reader.close(timeout=5)


async def test_a_step_without_an_end_is_ended(history: History, link: Link, database: Database) -> None:
    """A lock that a superuser holds beyond every lock_timeout: here the deadline of a step."""
    decided = await _planned(link, _POLICY, await _later(link, 5))
    assert len(decided.close) > 1
    await link.execute("SET lock_timeout = 0")
    holder: Any = await asyncpg.connect(database.admin_url, timeout=10)
    await holder.execute("BEGIN")
    await holder.execute("LOCK TABLE penstock.partitions IN ACCESS EXCLUSIVE MODE")
    report = await run(decided, link, step_timeout=0.5, sleep=_sleepless)
    assert report.dropped == {}
    stuck, *others = report.failed
    assert "did not end within 0.5 s" in report.failed[stuck]
    said = {report.failed[other] for other in others}
    assert said == {f"not tried: the connection had ended in the step {stuck}"}
    assert {stuck, *others} >= {*decided.close, *(decision.partition for decision in decided.drop)}
    await holder.execute("ROLLBACK")
    await holder.close(timeout=5)


async def test_a_connection_that_the_server_ends_is_named_once(
    history: History, link: Link, database: Database
) -> None:
    """And not waited for: no pause brings it back."""
    decided = await _planned(link, _POLICY, await _later(link, 5))
    admin = await asyncpg.connect(database.admin_url, timeout=10)
    await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", link.get_server_pid())
    await admin.close(timeout=5)
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    report = await run(decided, link, sleep=wait)
    first, *others = report.failed.values()
    assert "not tried" not in first
    assert len(others) > 1
    assert all("not tried" in why for why in others)
    assert waits == []


async def test_another_role_may_not(database: Database, history: History, link: Link) -> None:
    decided = await _planned(link, _POLICY, await _later(link, 5))
    reader = await asyncpg.connect(database.reader_url, timeout=10)
    report = await run(decided, reader, sleep=_sleepless)
    assert report.dropped == {}
    assert all("permission denied" in why for why in report.failed.values())
    assert report.failed
    await reader.close(timeout=5)
