"""`penstock projection` as a user runs it: a module of their own, processes, SIGTERM."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fixtures.databases import Database
from fixtures.processes import RunPenstock, StartPenstock
from fixtures.waiting import wait_for
from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock_schemas import Event
from penstock_store.backends import create_event_store

_MODULE = """
from penstock_store.projections import projection


async def setup(connection):
    await connection.execute("CREATE TABLE totals (entity text PRIMARY KEY, amount int)")


@projection("totals", setup=setup)
async def totals(connection, event):
    await connection.execute(
        "INSERT INTO totals AS t VALUES ($1, $2) ON CONFLICT (entity) DO UPDATE SET amount = t.amount + $2",
        event.entity_id, event.payload["amount"],
    )


@projection("count", initial=0)
def count(state, event):
    return state + 1 if event.payload["amount"] is not None else 1 / 0
"""


@pytest.fixture
def environ(database: Database, tmp_path: Path) -> dict[str, str]:
    module = tmp_path / "code"
    module.mkdir()
    (module / "shop_projections.py").write_text(_MODULE)
    return {
        "PENSTOCK_DATABASE_URL": database.url,
        "PENSTOCK_READER_DATABASE_URL": database.reader_url,
        "PYTHONPATH": str(module),
    }


def _append(database: Database, *amounts: int | None) -> list[int]:
    async def run() -> list[int]:
        async with create_event_store("postgresql", dsn=database.writer_url) as store:
            events = [Event(event_type="paid", entity_id="42", payload={"amount": n}) for n in amounts]
            return [result.sequence for result in await store.append_batch(events)]

    return asyncio.run(run())


def _total(database: Database) -> int | None:
    async def run() -> int | None:
        connection = await asyncpg.connect(database.reader_url, timeout=10)
        try:
            there = await connection.fetchval("SELECT to_regclass('projection_totals.totals') IS NOT NULL")
            return await connection.fetchval("SELECT amount FROM projection_totals.totals") if there else None
        finally:
            await connection.close(timeout=5)

    return asyncio.run(run())


def test_a_process_runs_tells_its_lag_and_ends_by_sigterm(
    database: Database, environ: dict[str, str], start_penstock: StartPenstock, run_penstock: RunPenstock
) -> None:
    _append(database, 1, 2)
    names = ("shop_projections:totals", "shop_projections:count")
    process = start_penstock(environ, "projection", "run", *names, "--metrics-port", "0")
    wait_for(process.ready, 60, "the process to be ready")
    wait_for(lambda: _total(database) == 3, what="the past")
    _append(database, 4)
    wait_for(lambda: _total(database) == 7, what="the present")

    def series() -> dict[tuple[str, str], float]:
        return {
            (sample.name, sample.labels.get("projection", "")): sample.value
            for family in text_string_to_metric_families(process.get("/metrics")[1])
            for sample in family.samples
        }

    wait_for(lambda: series()["penstock_projection_events_total", "count"] == 3, what="the metrics")
    shown = series()
    assert shown["penstock_projection_position", "totals"] == 3
    assert shown["penstock_projection_stopped", "totals"] == 0
    assert ("penstock_store_events", "") in shown
    status = json.loads(run_penstock(environ, "projection", "status", "--json").stdout)["projections"]
    assert {one["name"]: one["sequence"] for one in status} == {"totals": 3, "count": 3}
    assert all(one["owner"] for one in status)
    assert process.terminate() == ExitCode.OK
    assert "not running" in run_penstock(environ, "projection", "status").stdout


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """A command in this process: its exit code, and what it wrote as one line."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(environ["PYTHONPATH"])
    monkeypatch.delitem(sys.modules, "shop_projections", raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        code = run(["projection", *arguments])
        said = capsys.readouterr()
        return code, " ".join(f"{said.out} {said.err}".split())

    return call


def test_a_fault_names_the_event_and_skip_leaves_it_out(
    database: Database, command: Callable[..., tuple[int, str]]
) -> None:
    assert command("status") == (
        0,
        "No projection has run on this store. Start one: penstock projection run MODULE:NAME",
    )
    sequences = _append(database, 5, None, 6)
    code, said = command("run", "--once", "shop_projections:count")
    assert code == ExitCode.FAILED
    assert f"--skip {sequences[1]}" in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in command("status")[1]
    assert command("run", "--once", "--skip", str(sequences[1]), "shop_projections:count")[0] == ExitCode.OK
    assert "not running" in command("status")[1]
    code, said = command("rebuild", "shop_projections:count", "--dry-run")
    assert (code, "Nothing was changed" in said) == (0, True)
    assert command("rebuild", "shop_projections:count")[0] == ExitCode.FAILED
    code, said = command("rebuild", "shop_projections:count", "--skip", str(sequences[1]))
    assert (code, "Rebuilt count in version 1 from 3 events" in said) == (0, True)
    code, said = command("rebuild", "shop_projections:totals", "--json")
    assert code == ExitCode.OK
    assert json.loads(said)["events"] == 0  # it never ran


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:x", "cannot be imported"),
        ("json:dumps", "is no @projection"),
        ("json:nosuch", "is not there"),
        ("json", "module:name"),
    ],
)
def test_a_name_that_is_none_is_explained(capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    assert run(["projection", "run", name]) == ExitCode.USAGE
    assert said in " ".join(capsys.readouterr().err.split())
