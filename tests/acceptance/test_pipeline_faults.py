"""Short forms of `make faults`: the same scenarios, a few cycles, on the tests' own servers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.__main__ import main
from chaos.rig import Site
from chaos.scenarios import SCENARIOS
from fixtures.databases import Database
from fixtures.private_servers import PrivatePostgres

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
