"""The indexes of partitions to come are the user's choice."""

from __future__ import annotations

import asyncpg
import pytest
from typer.testing import CliRunner

from fixtures.databases import Database
from penstock.cli.app import build
from penstock_store import migrations
from penstock_store.errors import MigrationError


def _choose(database: Database, *wanted: str) -> str:
    result = CliRunner().invoke(build(), ["migrate", "--database-url", database.url, "indexes", *wanted])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


async def test_a_new_partition_gets_the_chosen_indexes(database: Database) -> None:
    assert _choose(database) == "full"
    assert _choose(database, "time,entity") == "entity,time"
    connection = await asyncpg.connect(database.url, timeout=10)
    (leaf,) = await connection.fetchval("SELECT penstock.ensure_partitions(0)")
    found = await connection.fetch("SELECT indexname FROM pg_indexes WHERE tablename = $1", leaf)
    await connection.close(timeout=5)
    names = {row["indexname"].removeprefix(f"{leaf}_") for row in found}
    assert names == {"sequence", "key", "event_id", "time", "entity"}
    assert _choose(database, "lean") == "lean"


@pytest.mark.parametrize("wanted", [["brin"], ["full", "time"], []])
def test_an_unknown_index_is_refused(database: Database, wanted: list[str]) -> None:
    with pytest.raises(MigrationError, match="give full, lean, or a list of time, type"):
        migrations.set_indexes(database.url, wanted)
