"""The idempotency ledger on a real server: one of many callers wins, and nobody waits without a bound."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from penstock_store.ledger import IdempotencyLedger, LedgerError, LedgerUnavailable, make_button_event_id


@pytest.fixture
async def pool(empty_database: Database) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(empty_database.url, min_size=1, max_size=8, timeout=10) as opened:
        yield opened


@pytest.fixture
async def ledger(pool: Any) -> IdempotencyLedger:
    made = IdempotencyLedger(pool)
    await made.ensure_table()
    return made


async def test_of_200_concurrent_marks_of_one_key_one_is_true(ledger: IdempotencyLedger) -> None:
    marks = await asyncio.gather(*(ledger.mark_processed("team", "event") for _ in range(200)))
    assert marks.count(True) == 1
    assert not await ledger.mark_processed("team", "event")


async def test_a_mark_belongs_to_its_team_and_event(ledger: IdempotencyLedger) -> None:
    assert not await ledger.is_processed("team", "event")
    assert await ledger.mark_processed("team", "event")
    assert await ledger.is_processed("team", "event")
    for other in (("team", "other"), ("other", "event"), ("teame", "vent")):
        assert not await ledger.is_processed(*other)
        assert await ledger.mark_processed(*other)


async def test_the_table_is_made_by_any_number_at_once(pool: Any) -> None:
    await asyncio.gather(*(IdempotencyLedger(pool).ensure_table() for _ in range(20)))
    indexes = await pool.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'processed_events'")
    assert sorted(row[0].partition(" USING ")[2] for row in indexes) == [
        "btree (processed_at)",
        "btree (team_id, event_id)",
    ]


async def test_a_table_that_is_there_needs_no_right_to_make_one(empty_database: Database, pool: Any) -> None:
    """A service calls `ensure_table` at each start, by a login that may do no more than use it."""
    await pool.execute("CREATE SCHEMA marks; GRANT USAGE ON SCHEMA marks TO penstock_writer")
    ours = await asyncpg.connect(empty_database.writer_url, timeout=10)
    try:
        ledger = IdempotencyLedger(ours, table="marks.processed_events")
        with pytest.raises(LedgerError, match="permission denied"):
            await ledger.ensure_table()
        await IdempotencyLedger(pool, table="marks.processed_events").ensure_table()
        await pool.execute("GRANT SELECT, INSERT ON marks.processed_events TO penstock_writer")
        await ledger.ensure_table()
        assert await ledger.mark_processed("team", "event")
        await ours.execute("SET search_path = marks")
        await IdempotencyLedger(ours).ensure_table()
    finally:
        await ours.close(timeout=5)


async def test_a_table_of_the_same_name_further_on_the_search_path_is_another_one(pool: Any) -> None:
    await pool.execute("CREATE SCHEMA first")
    await IdempotencyLedger(pool).ensure_table()
    async with pool.acquire() as connection:
        await connection.execute("SET search_path = first, public")
        await IdempotencyLedger(connection).ensure_table()
        assert await connection.fetchval("SELECT to_regclass('first.processed_events') IS NOT NULL")


async def test_old_marks_are_forgotten_and_young_ones_kept(ledger: IdempotencyLedger, pool: Any) -> None:
    await pool.execute(
        "INSERT INTO processed_events SELECT 'team', n::text, clock_timestamp() - interval '25 hours'"
        " FROM generate_series(1, 12000) n"
    )
    await ledger.mark_processed("team", "young")
    assert await ledger.cleanup_old_events(hours=26) == 0
    assert await ledger.cleanup_old_events() == 12_000
    assert await ledger.cleanup_old_events() == 0
    assert await ledger.is_processed("team", "young")
    assert await ledger.mark_processed("team", "1")
    assert await ledger.cleanup_old_events(hours=0) == 2


async def test_one_connection_is_enough(empty_database: Database) -> None:
    connection = await asyncpg.connect(empty_database.url, timeout=10)
    try:
        ledger = IdempotencyLedger(connection, table="own_marks")
        await ledger.ensure_table()
        marks = await asyncio.gather(*(ledger.mark_processed("t", f"e{n % 10}") for n in range(50)))
        assert marks.count(True) == 10
    finally:
        await connection.close(timeout=5)


async def test_what_cannot_be_is_refused(pool: Any, ledger: IdempotencyLedger) -> None:
    with pytest.raises(LedgerError, match="plain name"):
        IdempotencyLedger(pool, table='x"; DROP TABLE processed_events; --')
    with pytest.raises(LedgerError, match="timeout"):
        IdempotencyLedger(pool, timeout=0)
    for key in (("", "e"), ("t", ""), ("t", "a\0b"), ("t" * 1_025, "e"), ("t", None)):
        with pytest.raises(LedgerError, match="1,024 bytes"):
            await ledger.mark_processed(*key)  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="hours"):
        await ledger.cleanup_old_events(hours=-1)
    for hours in (
        float("inf"),
        float("nan"),
        1e8,
        1e12,
    ):  # the last two: before PostgreSQL's, and Python's, time
        with pytest.raises(LedgerError, match="hours"):
            await ledger.cleanup_old_events(hours=hours)
    with pytest.raises(LedgerError, match="ensure_table"):
        await IdempotencyLedger(pool, table="missing").is_processed("t", "e")


async def test_a_call_that_cannot_be_answered_ends(pool: Any, ledger: IdempotencyLedger) -> None:
    impatient = IdempotencyLedger(pool, timeout=0.5)
    async with pool.acquire() as other, other.transaction():
        await other.execute("INSERT INTO processed_events VALUES ('t', 'held')")
        with pytest.raises(LedgerUnavailable, match=r"within 0\.5 s"):
            await impatient.mark_processed("t", "held")
    assert not await ledger.mark_processed("t", "held")


def test_the_id_of_a_button_joins_its_three_parts() -> None:
    assert make_button_event_id("approve", "1700000000.000100", "U1") == "approve:1700000000.000100:U1"


def test_it_is_usable_without_the_rest() -> None:
    code = (
        "import sys; from penstock_store.ledger import IdempotencyLedger;"
        "print(sorted({'pydantic', 'sqlalchemy', 'penstock_schemas'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == "[]"
