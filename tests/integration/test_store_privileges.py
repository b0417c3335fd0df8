"""Invariant 8: append-only by privilege. Each login may do its work and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.ingesting import SinkFactory, batch, event, ref, refuse

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]

# Of these a writer may call the first three: they are how a copy keeps sequences.
_IMPORT = [
    "SELECT penstock.prepare_import(now())",
    "SELECT penstock.begin_import(0, now())",
    "SELECT penstock.finish_import()",
    "SELECT penstock.last_stored()",
]
_FORBIDDEN = {
    "writer": [
        "UPDATE {events} SET entity_id = 'x'",
        "DELETE FROM {events}",
        "TRUNCATE {events}",
        "DROP TABLE {leaf}",
        "ALTER TABLE {leaf} DISABLE TRIGGER ALL",
        "SELECT penstock.drop_partition('{name}')",
        "SELECT penstock.close_partition('{name}')",
        "SELECT penstock.create_partition(now())",
        "SELECT penstock.roll(now() + interval '10 years')",
        "SELECT penstock.reserve_sequences(1)",
        "SELECT nextval('penstock.event_sequence')",
        "SELECT setval('penstock.event_sequence', 1)",
        "SELECT penstock.last_stored()",
        "SELECT penstock.import_time(now())",
        "UPDATE penstock.partitions SET state = 'closed'",
        "UPDATE penstock.high_water SET sequence = 0",
        "DELETE FROM penstock.offsets",
        "UPDATE penstock.ingested SET stored = 0",
        "SELECT * FROM penstock.registry_schemas",
    ],
    "reader": [
        *_IMPORT,
        "INSERT INTO {events} SELECT * FROM {events}",
        "INSERT INTO {leaf} SELECT * FROM {leaf}",
        "DELETE FROM {events}",
        "UPDATE penstock.offsets SET epoch = 0",
        "SELECT penstock.publish()",
        "SELECT penstock.ensure_partitions(1)",
        "SELECT penstock.drop_partition('{name}')",
        "SELECT * FROM penstock.registry_schemas",
    ],
    "retention": [
        *_IMPORT,
        "INSERT INTO {events} SELECT * FROM {events}",
        "DELETE FROM {events}",
        "TRUNCATE {leaf}",
        "DROP TABLE {leaf}",
        "SELECT penstock.roll(now() + interval '10 years')",
        "UPDATE penstock.partitions SET state = 'closed'",
        "UPDATE penstock.settings SET partition_interval = '1 second'",
        "SELECT * FROM penstock.registry_schemas",
    ],
    "registry": [
        *_IMPORT,
        "SELECT * FROM {events}",
        "SELECT * FROM {leaf}",
        "SELECT penstock.safe_sequence()",
    ],
}


@asynccontextmanager
async def _login(database: Database, role: str) -> AsyncIterator[Admin]:
    connection = await asyncpg.connect(getattr(database, f"{role}_url"), timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@pytest.mark.parametrize("role", sorted(_FORBIDDEN))
async def test_what_a_login_may_not_do(role: str, database: Database, make_sink: SinkFactory) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    name = (await sink.write(batch(claim, [event()]), reject=refuse)).partition
    async with _login(database, role) as connection:
        for template in _FORBIDDEN[role]:
            statement = template.format(events="penstock.events", leaf=f'penstock."{name}"', name=name)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_what_each_login_may_do(database: Database, admin: Admin) -> None:
    async with _login(database, "retention") as connection:
        await connection.fetchval("SELECT penstock.ensure_partitions(1)")
        assert await connection.fetchval("SELECT penstock.roll()") == "rolled"
        await connection.fetch("SELECT * FROM penstock.events")
    async with _login(database, "reader") as connection:
        assert await connection.fetchval("SELECT penstock.safe_sequence()") == 0
        for table in ("events", "partitions", "offsets", "ingested", "high_water", "settings"):
            await connection.fetch(f"SELECT * FROM penstock.{table}")
    async with _login(database, "writer") as connection:
        for statement in _IMPORT[:3]:
            await connection.execute(statement)
    async with _login(database, "registry") as connection:
        await connection.execute(
            "INSERT INTO penstock.registry_schemas (schema, fingerprint) VALUES ('\"string\"', '\\x00')"
        )
        assert await connection.fetchval("SELECT compatibility FROM penstock.registry_config") == "BACKWARD"


async def test_functions_of_the_owner_resist_a_callers_search_path(admin: Admin) -> None:
    """A SECURITY DEFINER function without a search_path of its own runs whatever the caller puts in front,
    unless its names were bound when it was made.
    """
    rows = await admin.fetch(
        "SELECT proname, proconfig, proacl::text, prosqlbody IS NOT NULL AS bound FROM pg_proc"
        " WHERE pronamespace = 'penstock'::regnamespace"
    )
    assert len(rows) >= 12
    for row in rows:
        fixed = "search_path=pg_catalog, penstock, pg_temp" in (row["proconfig"] or [])
        assert fixed or row["bound"], row["proname"]
        assert not any(entry.startswith("=") for entry in row["proacl"].strip("{}").split(",")), row[
            "proname"
        ]
