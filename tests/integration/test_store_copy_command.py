"""`penstock store copy` as a person starts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.databases import Database
from fixtures.processes import RunPenstock
from penstock_schemas import Event
from penstock_store.backends import create_event_store


async def _fill(directory: Path, count: int) -> None:
    async with create_event_store("file", directory=directory) as store:
        await store.append_batch(
            [Event(event_type="a", entity_id="e", payload={"n": n}) for n in range(count)]
        )


async def test_a_dry_run_then_a_copy_then_a_repeat(
    tmp_path: Path, database: Database, run_penstock: RunPenstock
) -> None:
    await _fill(tmp_path / "events", 300)
    environment = {"PENSTOCK_DATABASE_URL": database.writer_url}
    copy = ("store", "copy", "--from", "file:events", "--to", "postgresql")
    dry = run_penstock(environment, *copy, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "300 events would be copied of 300 in the source; the target holds nothing." in dry.stdout
    done = run_penstock(environment, *copy, "--verify", "--batch-size", "70")
    assert done.returncode == 0, done.stderr
    assert "300 events copied" in done.stdout
    assert "Verified: both hold the same 300 events" in done.stdout
    again = run_penstock(environment, *copy, "--json")
    said = json.loads(again.stdout)
    assert (said["copied"]["stored"], said["copied"]["position"]) == (0, 300)
    password = database.writer_url.partition("@")[0].rpartition(":")[2]
    assert password not in done.stdout + done.stderr + again.stdout + again.stderr
    back = run_penstock(environment, "store", "copy", "--from", "postgresql", "--to", "file:back", "--verify")
    assert back.returncode == 0, back.stderr
    assert "recorded_at of the target's own" in back.stdout


async def test_verify_alone_says_what_is_missing(tmp_path: Path, run_penstock: RunPenstock) -> None:
    await _fill(tmp_path / "events", 5)
    await _fill(tmp_path / "other", 3)
    said = run_penstock({}, "store", "copy", "--from", "file:events", "--to", "file:other", "--verify-only")
    assert said.returncode == 1, said.stderr
    assert "Not verified: the source holds 5, the target 3; 5 missing, 0 different, 3 that" in said.stdout
    assert said.stdout.count("\nmissing ") == 5


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--from", "file:none", "--to", "file:b"), 5, "is no directory of events"),
        (("--from", "file:.", "--to", "file:../{here}"), 2, "is the store to copy from"),
        (("--from", "memory", "--to", "file:b"), 5, "ends with the process"),
        (("--from", "postgresql:db", "--to", "file:b"), 5, "is no store"),
        (("--from", "nothing", "--to", "file:b"), 2, "no event store backend is called"),
        (("--from", "file:none", "--to", "file:b", "--batch-size", "0"), 2, "--batch-size"),
        (("--from", "postgresql://127.0.0.1:1/db", "--to", "file:b"), 4, "127.0.0.1"),
    ],
)
def test_a_wrong_place_is_refused_in_words(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, run_penstock: RunPenstock
) -> None:
    ended = run_penstock({}, "store", "copy", *(text.format(here=tmp_path.name) for text in arguments))
    assert ended.returncode == code, ended.stderr
    assert said in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


async def test_a_backend_named_alone_is_the_configured_one(
    tmp_path: Path, database: Database, other_database: Database, run_penstock: RunPenstock
) -> None:
    await _fill(tmp_path / "here", 30)
    (tmp_path / "penstock.toml").write_text(
        f'worker_database_url = "{other_database.writer_url}"\n'
        '[event_store]\nbackend = "file"\n'
        '[event_store.file]\ndirectory = "here"\n'
        f'[event_store.postgresql]\ndsn = "{database.writer_url}"\nstream_chunk = 10\n'
    )
    done = run_penstock({}, "store", "copy", "--from", "file", "--to", "postgres", "--verify")
    assert done.returncode == 0, done.stderr
    assert "30 events copied" in done.stdout
    async with create_event_store("postgresql", dsn=database.writer_url) as store:
        assert (await store.get_metrics()).events >= 0
        assert len((await store.get_events()).events) == 30
    environment = {"PENSTOCK_EVENT_STORE_FILE_DIRECTORY": "there"}
    (tmp_path / "there").mkdir()
    other = run_penstock(environment, "store", "copy", "--from", "postgresql", "--to", "file", "--json")
    assert json.loads(other.stdout)["to"] == "file:there"
    assert json.loads(other.stdout)["copied"]["stored"] == 30


def test_a_wrong_table_of_the_store_named_is_refused_in_words(
    tmp_path: Path, run_penstock: RunPenstock
) -> None:
    (tmp_path / "penstock.toml").write_text('[event_store.file]\ndirectory = "e"\nmax_sise = 5\n')
    ended = run_penstock({}, "store", "copy", "--from", "file", "--to", "file:b")
    assert ended.returncode == 3
    assert "max_sise" in ended.stderr
    assert "did you mean max_size?" in " ".join(ended.stderr.split())
    (tmp_path / "penstock.toml").unlink()
    (tmp_path / "a").mkdir()
    missing = run_penstock({}, "store", "copy", "--from", "file:a", "--to", "kurrentdb")
    assert missing.returncode == 3
    assert "event_store.kurrentdb.uri" in missing.stderr
