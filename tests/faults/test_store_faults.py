"""The sink when its connection, its server or its owner fails: nothing twice, nothing lost, never stuck."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse
from fixtures.tcp_proxy import TcpProxy, proxied
from penstock_store.errors import FenceLost, SinkBroken, SinkUnavailable
from penstock_store.ingest import Outcome, PostgresSink, SinkSettings

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]

_TWINS = [event("twin", "1"), event("twin", "2")]  # their conflict makes `reject` run inside the transaction


async def _owner(admin: Admin) -> int | None:
    pid: int | None = await admin.fetchval("SELECT owner_pid FROM penstock.offsets")
    return pid


async def test_a_lost_answer_to_commit_stores_nothing_twice(
    database: Database, make_sink: SinkFactory, admin: Admin
) -> None:
    with proxied(database.writer_url) as proxy:
        sink = await make_sink(dsn=proxy.url(database.writer_url))
        claim = (await sink.claim([ref()]))[ref()]
        sent = batch(claim, [event("a", "1"), event("a", "1"), event("b")])
        proxy.swallow_answer_to(b"COMMIT\0")
        with pytest.raises(SinkUnavailable):
            await sink.write(sent, reject=refuse)
        assert proxy.swallowed.is_set()
        result = await sink.write(sent, reject=refuse)
        assert result.already_committed
        assert (result.total(Outcome.STORED), result.total(Outcome.DUPLICATE)) == (2, 1)
        assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 2
        assert await admin.fetchval("SELECT stored FROM penstock.ingested") == 2
        await sink.write(batch(claim, [event()], first=3, expected=3), reject=refuse)


async def test_a_connection_lost_before_commit_stores_nothing(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()

    async def cut(rejections: object) -> None:
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", await _owner(admin))

    sent = batch(claim, [*_TWINS, event()])
    with pytest.raises(SinkUnavailable):
        await sink.write(sent, reject=cut)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 0
    result = await sink.write(sent, reject=rejected)
    assert (result.total(Outcome.STORED), len(rejected.seen)) == (2, 1)


async def test_a_reconnection_names_the_new_backend_as_the_owner(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    before = await _owner(admin)
    await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", before)
    sent = batch(claim, [event()])
    with suppress(SinkUnavailable):  # the loss may have been noticed already
        await sink.write(sent, reject=refuse)
    await sink.write(sent, reject=refuse)  # where the first one was stored, its counts are found
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 1
    assert await _owner(admin) not in (None, before)


def _reconnect(proxy: TcpProxy) -> None:
    """The network is back for new connections; the old ones are gone."""
    proxy.cut()
    proxy.heal()


async def test_a_frozen_network_ends_at_the_deadline(
    database: Database, make_sink: SinkFactory, admin: Admin
) -> None:
    """asyncpg #1354, #1326, #1356: neither the COPY, nor its cancellation, nor closing may wait for ever."""
    with proxied(database.writer_url) as proxy:
        sink = await make_sink(
            dsn=proxy.url(database.writer_url),
            write_timeout=1,
            call_timeout=1,
            connect_timeout=1,
            claim_patience=0.2,
        )
        claim = (await sink.claim([ref()]))[ref()]
        sent = batch(claim, [event() for _ in range(5000)])
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(SinkUnavailable, match="within 1 s"):
            await sink.write(sent, reject=refuse)
        with pytest.raises(SinkUnavailable):
            await sink.write(sent, reject=refuse)
        with pytest.raises(SinkUnavailable):
            await sink.claim([ref(1)])
        await sink.close()
        assert time.monotonic() - started < 10
        _reconnect(proxy)
        result = await sink.write(sent, reject=refuse)
        assert result.total(Outcome.STORED) == 5000
        assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 5000


async def test_a_network_frozen_in_mid_copy_ends_at_the_deadline(
    database: Database, make_sink: SinkFactory
) -> None:
    with proxied(database.writer_url) as proxy:
        sink = await make_sink(dsn=proxy.url(database.writer_url), write_timeout=1, chunk_rows=100)
        claim = (await sink.claim([ref()]))[ref()]
        sent = batch(claim, [event(payload=b'"' + b"x" * 4000 + b'"') for _ in range(2000)])

        class Freezing(list[bytes]):
            def __getitem__(self, index):  # type: ignore[no-untyped-def]
                if index == slice(500, 600):
                    proxy.stall()
                return super().__getitem__(index)

        sent.rows = Freezing(sent.rows)
        with pytest.raises(SinkUnavailable, match="within 1 s"):
            await sink.write(sent, reject=refuse)
        _reconnect(proxy)
        sent.rows = list(sent.rows)
        assert (await sink.write(sent, reject=refuse)).total(Outcome.STORED) == 2000


async def test_a_connection_lost_while_the_copy_waits_for_the_socket_is_noticed(
    database: Database, make_sink: SinkFactory
) -> None:
    """asyncpg waits for leave to write, which nobody gives after the loss: only the deadline would end it."""
    with proxied(database.writer_url) as proxy:
        sink = await make_sink(dsn=proxy.url(database.writer_url), write_timeout=100, chunk_rows=100)
        claim = (await sink.claim([ref()]))[ref()]
        sent = batch(claim, [event(payload=b'"' + b"x" * 10_000 + b'"') for _ in range(4000)])
        loop = asyncio.get_running_loop()

        class Clogging(list[bytes]):
            def __getitem__(self, index):  # type: ignore[no-untyped-def]
                if index == slice(500, 600):
                    proxy.stall()
                    loop.call_later(0.5, _reconnect, proxy)
                return super().__getitem__(index)

        sent.rows = Clogging(sent.rows)
        started = time.monotonic()
        with pytest.raises(SinkUnavailable):
            await sink.write(sent, reject=refuse)
        assert time.monotonic() - started < 20
        sent.rows = list(sent.rows)
        assert (await sink.write(sent, reject=refuse)).total(Outcome.STORED) == 4000


async def test_a_cancelled_write_leaves_nothing_and_a_usable_sink(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    inside = asyncio.Event()

    async def hold(_: object) -> None:
        inside.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(sink.write(batch(claim, _TWINS), reject=hold))
    await asyncio.wait_for(inside.wait(), 10)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 0
    result = await sink.write(batch(claim, _TWINS), reject=Rejections())
    assert result.total(Outcome.STORED) == 1


async def test_a_claim_ends_an_owner_that_is_stuck_in_a_batch(make_sink: SinkFactory, admin: Admin) -> None:
    """A stuck transaction holds the offset's row, the partition lock and a floor; all go with its backend."""
    stuck, heir = (
        await make_sink(worker_name="stuck"),
        await make_sink(worker_name="heir", claim_patience=0.2),
    )
    claim = (await stuck.claim([ref()]))[ref()]
    inside, never = asyncio.Event(), asyncio.Event()

    async def hold(_: object) -> None:
        inside.set()
        await never.wait()

    writing = asyncio.create_task(stuck.write(batch(claim, _TWINS), reject=hold))
    await asyncio.wait_for(inside.wait(), 10)
    started = time.monotonic()
    inherited = (await heir.claim([ref()]))[ref()]
    assert time.monotonic() - started < 5
    assert (inherited.epoch, inherited.position, inherited.attempts) == (claim.epoch + 1, None, 2)
    result = await heir.write(batch(inherited, [event("twin", "1")]), reject=refuse)
    assert result.total(Outcome.STORED) == 1
    never.set()
    with pytest.raises(SinkUnavailable):
        await writing
    with pytest.raises(FenceLost):
        await stuck.write(batch(claim, _TWINS), reject=refuse)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 1


async def test_a_claim_leaves_an_owner_alive_that_is_not_in_its_way(
    make_sink: SinkFactory, admin: Admin
) -> None:
    one, two = await make_sink(worker_name="one"), await make_sink(worker_name="two")
    claims = await one.claim([ref(0), ref(1)])
    await two.claim([ref(0)])
    result = await one.write(batch(claims[ref(1)], [event()]), reject=refuse)
    assert result.total(Outcome.STORED) == 1


async def test_workers_that_store_the_same_keys_at_once_store_each_once(
    make_sink: SinkFactory, admin: Admin
) -> None:
    """Different orders of the same keys: they block each other, deadlock (40P01), and are run again."""
    workers = [await make_sink(worker_name=f"w{n}", attempts=20) for n in range(4)]
    chance = random.Random(7)
    keys = [f"k{n}" for n in range(400)]

    async def run(number: int, sink: PostgresSink) -> int:
        claim = (await sink.claim([ref(number)]))[ref(number)]
        stored, position = 0, None
        for _ in range(8):
            chosen = chance.sample(keys, 120)
            sent = batch(claim, [event(key) for key in chosen], first=position or 0, expected=position)
            stored += (await sink.write(sent, reject=refuse)).total(Outcome.STORED)
            position = sent.parts[0].next_offset
        return stored

    stored = await asyncio.gather(*(run(number, sink) for number, sink in enumerate(workers)))
    rows, distinct = await admin.fetchrow(
        "SELECT count(*), count(DISTINCT idempotency_key) FROM penstock.events"
    )
    assert rows == distinct == sum(stored)
    books = await admin.fetchrow("SELECT sum(stored), sum(stored + duplicate) FROM penstock.ingested")
    assert tuple(books) == (rows, 4 * 8 * 120)


async def test_a_locked_row_is_waited_for_in_bounded_time(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink(call_timeout=0.5)
    claim = (await sink.claim([ref()]))[ref()]
    async with admin.transaction():
        await admin.execute("SELECT * FROM penstock.offsets FOR UPDATE")
        with pytest.raises(SinkUnavailable) as waited:
            await sink.write(batch(claim, [event()]), reject=refuse)
        assert waited.value.sqlstate == "55P03"
    await sink.write(batch(claim, [event()]), reject=refuse)


async def test_an_administrators_cancel_leaves_no_lock_behind(  # type: ignore[no-untyped-def]
    make_sink: SinkFactory, admin: Admin, wait_for_async
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event()]), reject=refuse)
    pid = await _owner(admin)
    await admin.fetchval("SELECT pg_advisory_lock(1346719315, 2)")
    writing = asyncio.create_task(sink.write(batch(claim, [event()], first=1, expected=1), reject=refuse))
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE pid = $1 AND NOT granted"
    await wait_for_async(lambda: admin.fetchval(waiting, pid), 10, "the writer to wait")
    assert await admin.fetchval("SELECT pg_cancel_backend($1)", pid)
    with pytest.raises(SinkUnavailable):
        await writing
    await admin.fetchval("SELECT pg_advisory_unlock(1346719315, 2)")
    await sink.write(batch(claim, [event()], first=1, expected=1), reject=refuse)


_GRANTED_THEN_CANCELLED = """
CREATE FUNCTION public.{0}(a integer, b integer) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_catalog.{0}(a, b); RAISE query_canceled; END $$;
ALTER FUNCTION penstock.reserve_sequences SET search_path = public, pg_catalog, penstock, pg_temp
"""


@pytest.mark.parametrize("lock", ["pg_advisory_lock", "pg_advisory_xact_lock"])
async def test_a_cancel_between_grant_and_wake_up_leaves_no_lock_behind(
    admin: Admin, database: Database, lock: str
) -> None:
    """A waiter that is stopped gets its lock, and its lock_timeout when it wakes: others waited for ever."""
    await admin.execute(_GRANTED_THEN_CANCELLED.format(lock))
    other = await asyncpg.connect(database.admin_url, timeout=10)
    try:
        with suppress(asyncpg.QueryCanceledError):  # of the lock that is not the one it takes
            await other.execute("SELECT penstock.reserve_sequences(1)")
        assert await admin.fetchval("SELECT pg_try_advisory_lock(1346719315, 2)")
    finally:
        await other.close(timeout=5)


async def test_drawing_sequences_keeps_others_away_for_a_moment_only(
    admin: Admin, database: Database
) -> None:
    other = await asyncpg.connect(database.admin_url, timeout=10)
    try:
        async with other.transaction():
            first = await other.fetchval("SELECT penstock.reserve_sequences(3)")
            await admin.execute("SET lock_timeout = '5s'")
            assert await admin.fetchval("SELECT penstock.reserve_sequences(2)") == first + 3
    finally:
        await other.close(timeout=5)


async def test_a_database_without_schema_says_what_to_run(empty_database: Database) -> None:
    sink = PostgresSink(SinkSettings(dsn=empty_database.writer_url, group_id="g"))
    with pytest.raises(SinkBroken, match="penstock migrate"):
        await sink.open()
    await sink.close()


async def test_a_login_without_the_writers_role_is_broken(database: Database, make_sink: SinkFactory) -> None:
    sink = await make_sink(dsn=database.reader_url)
    with pytest.raises(SinkBroken, match="penstock_writer") as refused:
        await sink.claim([ref()])
    assert refused.value.sqlstate == "42501"


async def test_an_address_that_nobody_answers_is_unavailable(unused_tcp_port: int) -> None:
    sink = PostgresSink(
        SinkSettings(
            dsn=f"postgresql://user:secret@127.0.0.1:{unused_tcp_port}/d", group_id="g", connect_timeout=2
        )
    )
    with pytest.raises(SinkUnavailable) as refused:
        await sink.open()
    assert "secret" not in str(refused.value)


async def test_a_missing_column_is_everyones_fault(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await admin.execute("ALTER TABLE penstock.events DROP COLUMN causation_id")
    rejected = Rejections()
    with pytest.raises(SinkBroken) as broken:
        await sink.write(batch(claim, [event()]), reject=rejected)
    assert broken.value.sqlstate == "42703"
    assert not rejected.seen


async def test_a_sequence_behind_the_events_is_everyones_fault(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event(), event()]), reject=refuse)
    await admin.execute("SELECT setval('penstock.event_sequence', 0)")
    with pytest.raises(SinkBroken, match="event_sequence"):
        await sink.write(batch(claim, [event()], first=2, expected=2), reject=refuse)


async def test_every_call_says_store_error(make_sink: SinkFactory, database: Database, admin: Admin) -> None:
    """The server goes away between any two calls."""
    sink = await make_sink(dedupe_window=timedelta(hours=1))
    claim = (await sink.claim([ref()]))[ref()]
    calls = (
        lambda: sink.claim([ref()]),
        lambda: sink.release([claim]),
        lambda: sink.write(batch(claim, [event()]), reject=refuse),
        lambda: sink.skip(claim, 0, 1, "test"),
    )
    for call in calls:
        await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'penstock %'"
        )
        with suppress(SinkUnavailable, FenceLost):
            await call()  # type: ignore[no-untyped-call]
