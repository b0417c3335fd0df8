"""Short forms of `make faults`: the same scenarios, a few cycles, on the tests' own servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.__main__ import main
from chaos.rig import Site
from chaos.scenarios import SCENARIOS
from fixtures.databases import Database
from fixtures.private_servers import PrivatePostgres
from fixtures.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

MakeSite = Callable[..., Site]


@pytest.fixture
def site(kafka: str, tmp_path: Path) -> MakeSite:
    def make(database: Database | PrivatePostgres, **more: float) -> Site:
        server = database if isinstance(database, PrivatePostgres) else None
        return Site(kafka=kafka, database=database, folder=tmp_path, server=server, **more)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("name", "cycles"),
    [
        ("kill-worker", 4),
        ("zombie", 1),
        ("rebalance-storm", 6),
        ("rolling-partitions", 4),
        ("poison", 1),
    ],
)
async def test_nothing_is_lost_or_doubled_or_out_of_order(
    name: str, cycles: int, site: MakeSite, database: Database
) -> None:
    result = await SCENARIOS[name].run(site(database, events=4000), cycles)
    assert not result.faults
    assert result.findings.events > 0


async def test_postgresql_away_for_fifteen_seconds_under_full_input(
    site: MakeSite, private_postgres: PrivatePostgres
) -> None:
    result = await SCENARIOS["backpressure"].run(site(private_postgres, outage=15.0), 1)
    assert not result.faults


def test_an_unknown_scenario_is_refused_with_those_that_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["chaos", "--scenario", "kill-worker,nonsense"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert "no such scenario: nonsense. There are: kill-worker, " in capsys.readouterr().err


_HARNESS = """
import os, pathlib, sys, time
from fixtures.workers import WorkerProcess
worker = WorkerProcess(["--topic", "t"], {
    "CHAOS_PARENT": str(os.getpid()),
    "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "PENSTOCK_DATABASE_URL": "postgresql://127.0.0.1:1/none",
}, pathlib.Path(sys.argv[1]), "chaos.victim")
print(worker.pid, flush=True)
time.sleep(60)
"""


def test_a_run_that_is_killed_leaves_no_workers(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    harness = subprocess.Popen(
        [sys.executable, "-c", _HARNESS, str(log)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert harness.stdout is not None
    worker = Path("/proc") / harness.stdout.readline().decode().strip()
    wait_for(lambda: "Metrics:" in log.read_text(), 60, "the worker to run")
    harness.kill()
    harness.communicate(timeout=10)

    def gone() -> bool:  # its new parent may be slow to reap it
        try:
            return (worker / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone, 10, "the worker to end")
