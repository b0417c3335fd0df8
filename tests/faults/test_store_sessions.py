"""The sink's sessions: who is named as the owner, what is durable, what counts as committed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest
from pydantic import SecretStr

from fixtures.databases import Database
from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from fixtures.waiting import wait_for_async
from penstock.retention import RetentionOptions, _connected
from penstock_store import migrations
from penstock_store.errors import SinkUnavailable
from penstock_store.ingest import Outcome, PostgresSink, SinkSettings
from penstock_store.postgresql.store import PostgresStore

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]

_WRITER = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'penstock write%' AND datname = $1"


async def test_a_claim_that_crosses_a_reconnection_names_the_new_backend(
    make_sink: SinkFactory, admin: Admin, database: Database
) -> None:
    """Otherwise nobody could put that backend out when it is stuck in the middle of a batch."""
    sink = await make_sink(claim_patience=10.0)
    claims = await sink.claim([ref(0), ref(1)])
    async with admin.transaction():  # the claim waits for this row
        await admin.execute("SELECT FROM penstock.offsets WHERE partition = 1 FOR UPDATE")
        claiming = asyncio.create_task(sink.claim([ref(1)]))

        async def waits() -> bool:
            found = await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1",
                database.name,
            )
            return bool(found)

        await wait_for_async(waits, 10, "the claim to wait")
        before = await admin.fetchval(_WRITER, database.name)
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", before)
        writing = asyncio.create_task(_write(sink, batch(claims[ref(0)], [event()])))

        await wait_for_async(lambda: sink._writer.usable and sink._writer.pid != before, 10, "the new writer")
    await claiming
    await writing
    owners = await admin.fetch("SELECT owner_pid FROM penstock.offsets")
    assert {row["owner_pid"] for row in owners} == {await admin.fetchval(_WRITER, database.name)}


async def _write(sink: object, sent: object) -> None:
    for _ in range(5):
        with suppress(SinkUnavailable):
            await sink.write(sent, reject=refuse)  # type: ignore[attr-defined]
            return


async def test_a_commit_that_rolled_back_is_no_commit(make_sink: SinkFactory) -> None:
    sink = await make_sink()

    async def fails_unnoticed(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        with suppress(asyncpg.DivisionByZeroError):
            await connection.fetchval("SELECT 1 / 0")

    with pytest.raises(SinkUnavailable, match="ROLLBACK"):
        await sink._in_transaction(fails_unnoticed, "a batch", 5)


async def test_a_commit_is_durable_whatever_the_database_says(
    make_sink: SinkFactory, admin: Admin, database: Database
) -> None:
    await admin.execute(f'ALTER DATABASE "{database.name}" SET synchronous_commit = off')
    sink = await make_sink()
    assert await sink._writer.connection.fetchval("SHOW synchronous_commit") == "on"


async def test_every_session_reads_what_was_committed_whatever_the_database_says(
    make_sink: SinkFactory, admin: Admin, database: Database
) -> None:
    """What waits for a lock has to see what its holder did: appends, rolls, claims, retention, migrations."""
    await admin.execute(
        f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = 'serializable'"
    )
    sink = await make_sink()
    await sink._control.connect()
    found = {
        "writer": await sink._writer.connection.fetchval(_ISOLATION),
        "control": await sink._control.connection.fetchval(_ISOLATION),
        "migrations": await asyncio.to_thread(
            migrations._run, database.url, lambda c: c.exec_driver_sql(_ISOLATION).scalar()
        ),
    }
    async with PostgresStore(database.writer_url) as store:
        found["reads"] = (await store._pool.fetch(_ISOLATION))[0][0]
        found["appends"] = (await store._writes.fetch(_ISOLATION))[0][0]
    async with _connected(RetentionOptions(dsn=database.retention_url)) as connection:
        found["retention"] = await connection.fetchval(_ISOLATION)
    assert set(found.values()) == {"read committed"}, found


_ISOLATION = "SHOW transaction_isolation"
_DEMOTE = """
CREATE FUNCTION public.pg_is_in_recovery() RETURNS boolean LANGUAGE sql RETURN true;
ALTER DATABASE "{0}" SET search_path = public, pg_catalog
"""


async def test_a_standby_takes_no_writes_and_is_waited_for(
    make_sink: SinkFactory, admin: Admin, database: Database
) -> None:
    await admin.execute(_DEMOTE.format(database.name))
    with pytest.raises(SinkUnavailable, match="standby"):
        await make_sink()


async def test_a_connection_to_a_standby_does_not_live_to_see_its_promotion(
    make_sink: SinkFactory, admin: Admin, database: Database
) -> None:
    """It would bring along what was stored on the server before, which the promoted one may have lost."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    await admin.execute(_DEMOTE.format(database.name))
    sink._writer.terminate()
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="standby"):
            await sink.write(batch(claim, [event("a")], first=1, expected=1), reject=refuse)
        assert not sink._writer.usable
    await admin.execute("DROP FUNCTION public.pg_is_in_recovery(); TRUNCATE penstock.events")
    again = await sink.write(batch(claim, [event("a")], first=1, expected=1), reject=refuse)
    assert again.total(Outcome.STORED) == 1
    owner = await admin.fetchval("SELECT owner_pid FROM penstock.offsets")
    assert owner == await admin.fetchval(_WRITER, database.name)


async def test_a_first_connection_that_met_a_standby_claims_nothing_for_nobody(
    make_sink: SinkFactory, admin: Admin, database: Database
) -> None:
    await admin.execute(_DEMOTE.format(database.name))
    sink = PostgresSink(SinkSettings(dsn=SecretStr(database.writer_url), group_id="group"))
    try:
        for begin in (sink.open, lambda: sink.claim([ref()]), lambda: sink.claim([ref()])):
            with pytest.raises(SinkUnavailable, match="standby"):
                await begin()
    finally:
        await sink.close()
