"""Migrations on a real server: up, down, the same from every spelling, and nothing left behind."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import asyncpg
import pytest

from fixtures.databases import Database
from penstock_store import migrations
from penstock_store.errors import MigrationError
from penstock_store.migrations._sql import statements

_EVERYTHING = """
SELECT 'relation' AS kind, n.nspname || '.' || c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'function', p.oid::regprocedure::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2
"""
_STRUCTURE = """
SELECT table_name || '.' || column_name || data_type || is_nullable || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'penstock'
UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint
WHERE connamespace = 'penstock'::regnamespace
UNION ALL SELECT p.oid::regprocedure || ' ' || md5(pg_get_functiondef(p.oid)) || coalesce(p.proacl::text, '')
FROM pg_proc p
WHERE pronamespace = 'penstock'::regnamespace
ORDER BY 1
"""


async def _column(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close(timeout=5)


async def test_up_is_what_the_package_declares_and_down_leaves_nothing(empty_database: Database) -> None:
    url = empty_database.url
    before = await _column(url, _EVERYTHING)
    assert migrations.current(url) is None
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.head()
    migrations.check(url)
    migrations.upgrade(url)
    first = await _column(url, _STRUCTURE)
    connection = await asyncpg.connect(url)
    await connection.fetchval("SELECT penstock.ensure_partitions(3)")
    await connection.fetchval("SELECT penstock.roll()")
    await connection.close()
    migrations.check(url)  # partitions made at run time are no difference
    migrations.downgrade(url, "base")
    assert await _column(url, _EVERYTHING) == before
    migrations.upgrade(url)
    assert await _column(url, _STRUCTURE) == first


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg"])
def test_every_spelling_of_the_url_is_understood(database: Database, scheme: str) -> None:
    migrations.check(database.url.replace("postgresql", scheme, 1))


async def test_a_difference_is_reported(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    await connection.execute("ALTER TABLE penstock.offsets ADD COLUMN surprise integer")
    await connection.close()
    with pytest.raises(MigrationError, match="surprise"):
        migrations.check(database.url)


def test_a_database_without_schema_fails_the_check(empty_database: Database) -> None:
    with pytest.raises(MigrationError, match="penstock migrate"):
        migrations.check(empty_database.url)


async def test_the_offline_script_makes_the_same(empty_database: Database, database: Database) -> None:
    connection = await asyncpg.connect(empty_database.url)
    await connection.execute(migrations.offline_sql())
    await connection.close()
    migrations.check(empty_database.url)
    assert await _column(empty_database.url, _STRUCTURE) == await _column(database.url, _STRUCTURE)


async def test_migrations_at_once_wait_for_each_other(empty_database: Database) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrations.upgrade, empty_database.url) for _ in range(4)))
    migrations.check(empty_database.url)


async def test_roles_made_at_once_are_made_once(empty_database: Database) -> None:
    """Roles are the cluster's: migrations of several databases race for them."""
    role = f"penstock_test_{secrets.token_hex(4)}"
    (block,) = statements("0001_roles.sql")
    block = block.replace("\\:", ":").replace("penstock_writer", role)
    connections = [await asyncpg.connect(empty_database.admin_url) for _ in range(6)]
    try:
        await asyncio.gather(*(connection.execute(block) for connection in connections))
        assert await connections[0].fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", role) == 1
    finally:
        await connections[0].execute(f"DROP ROLE IF EXISTS {role}")
        await asyncio.gather(*(connection.close() for connection in connections))


async def test_a_missing_privilege_to_make_roles_says_what_to_run(empty_database: Database) -> None:
    (block,) = statements("0001_roles.sql")
    block = block.replace("\\:", ":").replace("penstock_writer", f"penstock_test_{secrets.token_hex(4)}")
    connection = await asyncpg.connect(empty_database.reader_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as refused:
            await connection.execute(block)
        assert "CREATE ROLE" in str(refused.value.hint)
    finally:
        await connection.close()


async def test_a_missing_privilege_names_itself(empty_database: Database) -> None:
    with pytest.raises(MigrationError, match="42501"):
        migrations.upgrade(empty_database.reader_url)


async def test_another_encoding_is_refused_before_any_event(empty_database: Database) -> None:
    name = f"test_ascii_{secrets.token_hex(4)}"
    url = empty_database.admin_url.removesuffix(empty_database.name) + name
    connection = await asyncpg.connect(empty_database.admin_url)
    try:
        await connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        with pytest.raises(MigrationError, match="UTF8"):
            await asyncio.to_thread(migrations.upgrade, url)
        assert migrations.current(url) is None
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


def test_no_connection_says_so_without_the_password(unused_tcp_port: int) -> None:
    with pytest.raises(MigrationError, match="no connection") as refused:
        migrations.upgrade(f"postgresql://user:secret@127.0.0.1:{unused_tcp_port}/d")
    assert "secret" not in str(refused.value)


def test_statements_are_cut_whole() -> None:
    found = statements("0001_ingest.sql")
    assert all(statement.startswith(("CREATE", "COMMENT")) for statement in found)
    assert all(statement.count("$$") in (0, 2) for statement in found)
