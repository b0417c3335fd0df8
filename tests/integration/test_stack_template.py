"""The migrated template: each test's database is whole and its own."""

import asyncpg

from fixtures.databases import Database
from penstock_store import migrations


def test_a_cloned_database_is_at_the_newest_revision(database: Database) -> None:
    assert migrations.current(database.url) == migrations.head()


async def test_a_clone_is_dropped_while_connections_are_open(database: Database) -> None:
    connection = await asyncpg.connect(database.url, timeout=10)
    assert await connection.fetchval("SELECT current_database()") == database.name
    connection.terminate()
