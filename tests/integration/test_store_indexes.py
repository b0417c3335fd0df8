"""The indexes of partitions to come are the user's choice."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from fixtures.databases import Database
from penstock.cli.app import build
from penstock.errors import SettingsError
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


@pytest.mark.parametrize("source", ["environment", "file"])
def test_the_settings_choose_the_indexes_at_each_migration(
    database: Database, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if source == "file":
        (tmp_path / "penstock.toml").write_text('indexes = ["time", "entity"]\n')
    else:
        monkeypatch.setenv("PENSTOCK_INDEXES", "time, entity")
    command = ["migrate", "--database-url", database.url]
    first, again = (CliRunner().invoke(build(), command) for _ in range(2))
    assert "Partitions made from now on: full → entity,time indexes." in first.stdout
    assert again.exit_code == 0
    assert "entity" not in again.stdout
    assert migrations.indexes(database.url) == ("entity", "time")
    other = CliRunner().invoke(build(), [*command, "indexes", "lean"])
    assert other.stdout == "lean\n"
    assert "`penstock migrate` brings that back" in other.stderr


def test_a_setting_of_unknown_indexes_is_refused_before_anything_is_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_INDEXES", "brin")
    result = CliRunner().invoke(build(), ["migrate", "--database-url", database.url])
    assert isinstance(result.exception, SettingsError)
    assert "give full, lean, or a list of time, type" in str(result.exception)
    assert migrations.indexes(database.url) == ("full",)


@pytest.mark.parametrize("wanted", [["brin"], ["full", "time"], []])
def test_an_unknown_index_is_refused(database: Database, wanted: list[str]) -> None:
    with pytest.raises(MigrationError, match="give full, lean, or a list of time, type"):
        migrations.set_indexes(database.url, wanted)
