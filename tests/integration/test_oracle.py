"""The oracle of the fault runs finds what it is there to find: a judge that never condemns proves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures import ownership
from fixtures.databases import Database
from fixtures.history import History
from fixtures.oracle import Findings, Oracle
from penstock_schemas import Event

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
EVENTS = [Event(event_type="a", entity_id="e", idempotency_key=f"k{n}", payload={"n": n}) for n in range(6)]


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database.url, timeout=10)
    await History(connection).start()
    yield connection
    await connection.close(timeout=5)


async def _found(owner: Connection, stored: list[Event]) -> Findings:
    await History(owner).append(stored)
    oracle = Oracle()
    for event in EVENTS:
        oracle.expect(event)
    return await oracle.audit(owner)


async def test_what_is_equal_is_found_equal_and_only_the_books_are_missing(owner: Connection) -> None:
    found = await _found(owner, EVENTS)
    assert (found.events, found.lost, found.duplicated, found.reordered, found.altered) == (6, 0, 0, 0, 0)
    assert [fault.split()[0:3] for fault in found.unbalanced] == [["the", "books", "say"]]


async def test_a_lost_and_an_unknown_event_are_found(owner: Connection) -> None:
    stranger = EVENTS[3].model_copy(update={"idempotency_key": "other"})
    found = await _found(owner, [*EVENTS[:3], stranger, *EVENTS[4:]])
    assert (found.lost, found.unknown, found.duplicated) == (1, 1, 0)
    assert "lost: ('default', 'k3')" in found.faults()


async def test_an_event_stored_twice_is_found(owner: Connection) -> None:
    index = await owner.fetch(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN penstock.partitions p "
        "ON indrelid = ('penstock.' || p.name)::regclass WHERE indisunique"
    )
    for name in index:
        await owner.execute(f"ALTER TABLE penstock.events DROP CONSTRAINT IF EXISTS {name[0].split('.')[1]}")
        await owner.execute(f"DROP INDEX IF EXISTS {name[0]}")
    found = await _found(owner, [*EVENTS, EVENTS[5].model_copy(update={"metadata": {}})])
    assert found.duplicated == 1


async def test_two_events_of_an_entity_that_changed_places_are_found(owner: Connection) -> None:
    found = await _found(owner, [EVENTS[1], EVENTS[0], *EVENTS[2:]])
    assert (found.reordered, found.lost, found.altered) == (1, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"occurred_at": EVENTS[2].occurred_at + timedelta(microseconds=1)},
        {"metadata": {"tags": ["x"]}},
        {"payload": {"n": 2.5}},
        {"actor_id": "somebody"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_change_in_any_column_is_found(owner: Connection, change: dict[str, object]) -> None:
    found = await _found(owner, [*EVENTS[:2], EVENTS[2].model_copy(update=change), *EVENTS[3:]])
    assert (found.altered, found.lost, found.reordered) == (1, 0, 0)


async def test_rows_of_a_worker_that_is_no_owner_are_found(owner: Connection) -> None:
    await ownership.watch(owner)
    claim = """INSERT INTO penstock.offsets
               (group_id, cluster_id, topic, topic_id, partition, epoch, owner_pid, owner_backend_start)
               VALUES ('g', 'c', 't', 'i', $1, 1, $2, now())"""
    mine = await owner.fetchval("SELECT pg_backend_pid()")
    await owner.execute(claim, 0, mine)
    await owner.execute(claim, 1, mine + 1)
    await owner.execute("UPDATE penstock.offsets SET next_offset = 5 WHERE partition = 0")
    assert await ownership.stale_rows(owner) == 0
    await owner.execute("UPDATE penstock.offsets SET next_offset = 7 WHERE partition = 1")
    assert await ownership.stale_rows(owner) == 7
    await History(owner).append(EVENTS[:2])  # rows beside the books
    assert await ownership.stale_rows(owner) == 9
