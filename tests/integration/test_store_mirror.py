"""Two stores behind one: the old one is the truth, the new one gets the same events, late at worst."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fixtures.databases import Database
from fixtures.tcp_proxy import proxied
from fixtures.waiting import wait_for_async
from penstock_schemas import Event
from penstock_store.appending import AppendResult
from penstock_store.backends import create_event_store
from penstock_store.checkpoint_records import CheckpointRecords, Move
from penstock_store.contract import QueryOptions
from penstock_store.journal import EventJournal, create_event_journal, migrate_file_to_postgres
from penstock_store.memory import MemoryEventStore
from penstock_store.moving import MirroredStore, compare_stores, copy_events
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_contract import Capability, EventStore
from penstock_store.store_errors import InvalidSettings, NotSupported, UnknownBackend, WrongExpectedVersion


def _event(number: int) -> Event:
    return Event(event_type="a", entity_id=f"e{number % 3}", payload={"n": number})


class _Ailing(MemoryEventStore):
    """Refuses, or stores and loses the answer, when told to."""

    ill: str | None = None

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        if self.ill == "before":
            raise StoreUnavailable("away")
        results = await super().append_batch(events, expected_version=expected_version)
        if self.ill == "after":
            raise StoreUnavailable("the answer was lost")
        return results


async def _equal(old: EventStore, new: EventStore) -> bool:
    found = await compare_stores(old, new)
    return found.equal and found.same_order


async def test_an_append_is_in_both_when_it_returns() -> None:
    old, new = MemoryEventStore(), MemoryEventStore()
    async with MirroredStore(old, new) as store:
        assert isinstance(store, EventStore)
        await wait_for_async(lambda: store.mirror_status().level)
        for number in range(20):
            await store.append(_event(number))
            assert (await new.get_metrics()).events == number + 1
        assert [e.event_id async for e in store.stream()] == [e.event_id async for e in new.stream()]
        assert store.mirror_status().mirrored == 20
        assert store.mirror_status().late == 0


@pytest.mark.parametrize("ill", ["before", "after"])
async def test_a_new_store_that_fails_loses_and_doubles_nothing(ill: str) -> None:
    old, new = MemoryEventStore(), _Ailing()
    async with MirroredStore(old, new, patience=5, poll_interval=0.01) as store:
        await store.append(_event(0))
        await wait_for_async(lambda: store.mirror_status().level)
        new.ill = ill
        for number in range(1, 10):
            assert (await store.append(_event(number))).stored
        assert not store.mirror_status().level
        assert store.mirror_status().failures > 0
        assert store.mirror_status().late > 0
        assert "behind" in (await store.health_check()).detail
        assert (await store.health_check()).ready
        new.ill = None
        await wait_for_async(lambda: _equal(old, new))
        await wait_for_async(lambda: store.mirror_status().level)
        await store.append(_event(10))
        assert (await new.get_metrics()).events == 11


async def test_a_new_store_that_is_far_behind_is_left_to_a_copy() -> None:
    old, new = MemoryEventStore(), MemoryEventStore()
    await old.append_batch([_event(n) for n in range(50)])
    async with MirroredStore(old, new, most_behind=20, poll_interval=0.01) as store:
        await store.append(_event(50))
        assert (await new.get_metrics()).events == 0
        assert not store.mirror_status().level
        with pytest.raises(StoreUnavailable, match="not level within"):
            await store.switch(timeout=0.1)
        assert (await store.append(_event(51))).stored  # the old one goes on
        await new.append_batch([event async for event in old.stream(QueryOptions(up_to_sequence=40))])
        await wait_for_async(lambda: store.mirror_status().level)
        await wait_for_async(lambda: _equal(old, new))


async def test_a_switch_loses_no_append_and_swaps_none() -> None:
    old, new = MemoryEventStore(), MemoryEventStore()
    async with MirroredStore(old, new) as store:
        results: list[AppendResult] = []

        async def write(writer: int) -> None:
            for number in range(40):
                result = await store.append(_event(100 * writer + number))
                results.append(result)

        writers = [asyncio.create_task(write(n)) for n in range(5)]
        await wait_for_async(lambda: len(results) > 50)
        await store.switch()
        before = (await old.get_metrics()).events
        await asyncio.gather(*writers)
        assert store.mirror_status().switched
        assert (await old.get_metrics()).events == before < 200
        assert {r.event_id for r in results} == {e.event_id async for e in store.stream()}
        assert [r.sequence for r in sorted(results, key=lambda r: r.sequence)] == list(range(1, 201))
        with pytest.raises(WrongExpectedVersion):
            await store.append(_event(0), expected_version=1)


class _Slow(MemoryEventStore):
    """Stores a while after it was asked, as a store on a disk or behind a network does."""

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        await asyncio.sleep(0.05)
        return await super().append_batch(events, expected_version=expected_version)


@pytest.mark.parametrize("overlapping", [False, True])
async def test_a_switch_that_is_tried_again_at_once_loses_no_append(overlapping: bool) -> None:
    """The appends that the first one kept waiting must not slip into the old store during the second one."""
    old, new = _Slow(), _Ailing()
    async with MirroredStore(old, new, poll_interval=0.01) as store:
        await store.append(_event(0))
        await wait_for_async(lambda: store.mirror_status().level)
        new.ill = "before"
        await store.append(_event(1))

        async def switch() -> None:
            second = asyncio.create_task(store.switch(timeout=30)) if overlapping else None
            with pytest.raises(StoreUnavailable, match="away"):
                await store.switch(timeout=0.1)
            new.ill = None
            await (store.switch() if second is None else second)

        switching = asyncio.create_task(switch())
        await asyncio.sleep(0)  # from here on appends wait
        results = await asyncio.gather(*(store.append(_event(number)) for number in range(2, 22)))
        await switching
        assert store.mirror_status().switched
        held = {event.event_id async for event in store.stream()}
        assert {result.event_id for result in results} <= held
        await store.switch()  # nothing is left to do
        assert (await old.get_metrics()).events + len(results) >= (await new.get_metrics()).events == 22


async def test_a_switch_outlives_a_restart(tmp_path: Path, database: Database) -> None:
    """With the same two stores: the old one must not be the truth again, without what came since."""

    def stores() -> tuple[EventStore, EventStore]:
        old = create_event_store("file", directory=tmp_path / "old")
        return old, create_event_store("postgresql", dsn=database.writer_url)

    async with MirroredStore(*stores()) as store:
        await store.append_batch([_event(number) for number in range(6)])
        await store.switch(timeout=60)
        known = Event(event_type="a", entity_id="e0", idempotency_key="k")
        last = await store.append(known)
    async with MirroredStore(*stores()) as store:
        assert store.mirror_status().switched
        assert [event.sequence async for event in store.stream()][-1] == last.sequence
        assert not (await store.append(known)).stored
        with pytest.raises(WrongExpectedVersion):
            await store.append(_event(3), expected_version=4)
        assert (await store.append(_event(3), expected_version=last.sequence)).stored
        await store.switch()  # nothing is left to do


class _Unmarked(MemoryEventStore):
    """Keeps a switch's mark, and loses the answer."""

    def checkpoint_records(self) -> CheckpointRecords:
        records = super().checkpoint_records()
        save = records.save

        async def lost(move: Move) -> bool:
            await save(move)
            raise StoreUnavailable("the answer was lost")

        records.save = lost  # type: ignore[method-assign]
        return records


@pytest.mark.parametrize("appended", [0, 1], ids=["at once", "after an append"])
async def test_a_switch_that_failed_with_its_mark_kept_forks_nothing(appended: int) -> None:
    """The new store may be the truth after the restart as long as it has all; else the old one goes on."""
    old, new = _Unmarked(), MemoryEventStore()
    async with MirroredStore(old, new) as store:
        await store.append(_event(0))
        with pytest.raises(StoreUnavailable, match="answer was lost"):
            await store.switch()
        for number in range(appended):
            await store.append(_event(number))
        assert not store.mirror_status().switched
    for _ in range(2):
        async with MirroredStore(old, new) as store:
            assert store.mirror_status().switched is not bool(appended)
            if appended:
                await wait_for_async(lambda: store.mirror_status().level)
            result = await store.append(_event(9))
            assert result.event_id in {event.event_id async for event in new.stream()}
            assert len([event async for event in store.stream()]) == result.sequence


async def test_what_others_write_to_the_old_store_after_a_switch_takes_nothing_back() -> None:
    old, new = MemoryEventStore(), MemoryEventStore()
    async with MirroredStore(old, new) as store:
        await store.append(_event(0))
        await store.switch()
        await store.append(_event(1))
    await old.append(_event(2))
    with capture_logs() as logs:
        async with MirroredStore(old, new) as store:
            assert store.mirror_status().switched
            await copy_events(old, new)
    assert "old_store_written_after_switch" in [log["event"] for log in logs]
    async with MirroredStore(old, new) as store:  # what was copied since says nothing else
        assert store.mirror_status().switched
        assert len([event async for event in store.stream()]) == 3


class _Without(MemoryEventStore):
    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities - {Capability.CHECKPOINTS}


async def test_a_switch_that_could_not_be_kept_is_refused() -> None:
    async with MirroredStore(_Without(), MemoryEventStore()) as store:
        await store.append(_event(0))
        with pytest.raises(NotSupported, match="configuration"):
            await store.switch()
        assert not store.mirror_status().switched
        assert (await store.append(_event(1))).stored


async def test_a_cut_link_to_the_new_database_is_made_good(tmp_path: Path, database: Database) -> None:
    with proxied(database.writer_url) as link:
        old = create_event_store("file", directory=tmp_path / "old")
        new = create_event_store("postgresql", dsn=link.url(database.writer_url), command_timeout=5.0)
        async with MirroredStore(old, new, poll_interval=0.05) as store:
            await store.append(_event(0))
            await wait_for_async(lambda: store.mirror_status().level)
            link.cut()
            for number in range(1, 6):
                assert (await store.append(_event(number))).stored
            await wait_for_async(lambda: store.mirror_status().failures > 0)
            link.heal()
            await wait_for_async(lambda: store.mirror_status().level, deadline=60)
            await store.switch(timeout=30)
            found = await compare_stores(old, new)
            assert found.equal
            assert found.same_sequences
            assert found.same_recorded_at


async def _read(journal: EventJournal) -> list[object]:
    return [event.payload["n"] async for event in journal.read_events()]


async def test_a_file_journal_moves_to_postgres_while_it_is_written(
    tmp_path: Path, database: Database
) -> None:
    files = {"EVENT_JOURNAL_BACKEND": "file", "DATABASE_URL": database.writer_url}
    async with await create_event_journal(directory=tmp_path, environ=files) as journal:
        for number in range(10):
            await journal.append_event(_event(number))
    mirrored = {**files, "EVENT_JOURNAL_MIRROR": "postgres"}
    async with await create_event_journal(directory=tmp_path, environ=mirrored) as journal:
        await journal.append_event(_event(10))
        planned = await migrate_file_to_postgres(tmp_path, environ=files, dry_run=True)
        assert planned.plan is not None
        assert planned.plan.source_events == 11
        done = await migrate_file_to_postgres(tmp_path, environ=files)
        assert done.verified
        await journal.append_event(_event(11))
    switched = {**mirrored, "EVENT_JOURNAL_BACKEND": "postgres"}
    async with await create_event_journal(directory=tmp_path, environ=switched) as journal:
        assert await _read(journal) == list(range(12))


async def test_a_migration_without_an_address_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="DATABASE_URL"):
        await migrate_file_to_postgres(tmp_path, environ={})
    with pytest.raises(UnknownBackend, match="EVENT_JOURNAL_MIRROR=postgres"):
        await create_event_journal(
            directory=tmp_path, environ={"EVENT_JOURNAL_MIRROR": "file", "DATABASE_URL": "postgresql://x/y"}
        )
