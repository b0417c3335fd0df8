"""Events of several days, copied into PostgreSQL: each day into its own partition, with its times."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History
from penstock_schemas import Event, RecordedEvent
from penstock_store.backends import create_event_store
from penstock_store.contract import QueryOptions
from penstock_store.moving import CopyProgress, MirroredStore, compare_stores, copy_events
from penstock_store.moving.copying import Copier
from penstock_store.partitions import list_partitions
from penstock_store.retention import RetentionPolicy, plan, run
from penstock_store.store_contract import EventStore

_DAY = timedelta(days=1)
_PER_DAY = 30


class _Clock:
    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now


async def _history(first: datetime, days: list[int]) -> EventStore:
    """Events of the given days after `first`, one every hour and a bit."""
    clock = _Clock(first)
    store = create_event_store("memory", clock=clock)
    for day in days:
        for place in range(_PER_DAY):
            clock.now = first + day * _DAY + place * timedelta(minutes=47)
            await store.append(Event(event_type="a", entity_id=f"e{place % 3}", payload={"day": day}))
    return store


async def _all(store: EventStore) -> list[RecordedEvent]:
    return [event async for event in store.stream()]


async def _partitions(database: Database) -> list[tuple[datetime, int]]:
    """(lower bound, events) of those that hold any."""
    connection = await asyncpg.connect(database.url, timeout=10)
    try:
        rows = await connection.fetch("SELECT name, lower FROM penstock.partitions ORDER BY lower")
        counts = [await connection.fetchval(f'SELECT count(*) FROM penstock."{r["name"]}"') for r in rows]
        return [(row["lower"], count) for row, count in zip(rows, counts, strict=True) if count]
    finally:
        await connection.close(timeout=5)


async def test_each_day_goes_into_its_own_partition(database: Database) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [0, 1, 2, 5, 9]  # with days in between on which nothing happened
    source = await _history(today - 10 * _DAY, days)
    async with create_event_store("postgresql", dsn=database.writer_url) as target:
        task = asyncio.current_task()
        assert task is not None

        def stop(progress: CopyProgress) -> None:
            if progress.stored >= 70:  # in the third day
                task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await copy_events(source, target, batch_size=20, on_progress=stop)
        task.uncancel()
        begun = await _all(target)
        assert 70 <= len(begun) < 150
        report = await copy_events(source, target, batch_size=43)  # batches that reach over midnight
        assert report.start == len(begun)
        assert report.stored == report.times_kept == report.sequences_kept == 150 - len(begun)
        assert await _all(target) == await _all(source)
        found = await compare_stores(source, target)
        assert (found.equal, found.same_sequences, found.same_recorded_at) == (True, True, True)
        # Every read finds its way through them.
        wanted = [event for event in await _all(source) if event.entity_id == "e1"]
        entity = target.stream(QueryOptions(entity_id="e1", tenant_id="default"))
        assert [event async for event in entity] == wanted
        day = QueryOptions(recorded_since=today - 8 * _DAY, recorded_until=today - 5 * _DAY)
        assert [event.payload["day"] async for event in target.stream(day)] == [2] * _PER_DAY
        for event in (await _all(source))[::37]:
            assert await target.get_event(event.event_id) == event
        # What comes now is of today, after all of it; what was there is known.
        repeated = (await _all(source))[3]
        again = await target.append(Event(**{n: getattr(repeated, n) for n in Event.model_fields}))
        assert (again.stored, again.sequence) == (False, repeated.sequence)
        new = await target.append(Event(event_type="b", entity_id="e1"), expected_version=wanted[-1].sequence)
        assert new.sequence > 150
        assert new.recorded_at >= today
        assert (await target.append(Event(event_type="b", entity_id="e2"))).recorded_at > new.recorded_at
    assert await _partitions(database) == [
        *((today - 10 * _DAY + day * _DAY, _PER_DAY) for day in days),
        (today, 2),
    ]


async def _current(database: Database) -> datetime:
    connection = await asyncpg.connect(database.url, timeout=10)
    try:
        lower: datetime = await connection.fetchval(
            "SELECT lower FROM penstock.partitions WHERE state = 'current'"
        )
        return lower
    finally:
        await connection.close(timeout=5)


async def test_a_copy_that_is_called_again_leaves_the_target_in_today(database: Database) -> None:
    """Killed between its last batch and its end: the second one has nothing to copy."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    source = await _history(today - 100 * _DAY, [0])
    async with create_event_store("postgresql", dsn=database.writer_url) as target:
        copier = Copier(source, target)
        await copier.advance()
        await copier.close()
        assert await _current(database) == today - 100 * _DAY
        assert (await copy_events(source, target)).stored == 0
        assert await _current(database) == today


async def test_after_a_switch_appends_are_of_today_and_kept(database: Database) -> None:
    """The mirror filled the new store from a history that ends 100 days ago."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    source = await _history(today - 100 * _DAY, [0])
    target = create_event_store("postgresql", dsn=database.writer_url)
    async with MirroredStore(source, target) as store:
        await store.switch(timeout=60)
        assert await _current(database) == today
        new = await store.append(Event(event_type="b", entity_id="e1"))
        assert new.recorded_at >= today
        retention = await asyncpg.connect(database.retention_url, timeout=10)
        policy = RetentionPolicy(retain_days=90)
        due = plan(await list_partitions(retention), policy, datetime.now(UTC))
        report = await run(due, retention)
        await retention.close(timeout=5)
        assert list(report.dropped.values()) == [_PER_DAY]
        assert [event.event_id async for event in target.stream()] == [new.event_id]


async def test_a_time_that_has_passed_in_the_target_becomes_the_nearest(database: Database) -> None:
    """The target's partitions go forward only: a source's clock that went back cannot take them along."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    source = await _history(today - 5 * _DAY, [0, 3, 1, 4])
    async with create_event_store("postgresql", dsn=database.writer_url) as target:
        report = await copy_events(source, target, batch_size=25)
        assert (report.stored, report.sequences_kept) == (120, 120)
        assert report.times_kept == 90
        times = [event.recorded_at for event in await _all(target)]
        assert times[60:90] == [today - 2 * _DAY] * 30
        assert [e.event_id for e in await _all(target)] == [e.event_id for e in await _all(source)]
        found = await compare_stores(source, target)
        assert (found.equal, found.same_recorded_at) == (True, False)


async def test_empty_partitions_that_were_finished_take_history_again(database: Database) -> None:
    owner = await asyncpg.connect(database.url, timeout=10)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        empty = History(owner)
        await owner.execute("SELECT penstock.prepare_import($1)", today - 2 * _DAY)
        await empty.roll()
        await empty.roll()
    finally:
        await owner.close(timeout=5)
    source = await _history(today - 2 * _DAY, [0, 1])
    async with create_event_store("postgresql", dsn=database.writer_url) as target:
        report = await copy_events(source, target)
        assert (report.stored, report.times_kept) == (2 * _PER_DAY, 2 * _PER_DAY)
        assert (await compare_stores(source, target)).equal
