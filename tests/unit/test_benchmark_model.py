"""The arithmetic of `python -m benchmarks model`."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.model import Constants, Server, need, rows

_RATES = st.floats(1, 1e7)
_CONSTANTS = st.builds(
    Constants,
    worker_rate=st.floats(1e3, 1e6),
    worker_cpu=st.floats(1e-6, 1e-4),
    backend_cpu=st.floats(1e-6, 1e-4),
    second_session=st.floats(0.5, 2.0),
    wal=st.floats(100, 10_000),
    disk=st.floats(100, 10_000),
)
_SERVERS = st.builds(Server, cores=st.integers(1, 256), wal=st.floats(1e6, 1e10))


@given(_RATES, _CONSTANTS, _SERVERS)
def test_what_is_planned_carries_the_rate_with_a_spare(
    rate: float, constants: Constants, server: Server
) -> None:
    found = need(rate, constants, server)
    assert found.workers * constants.worker_rate >= rate
    assert found.servers * server.wal >= found.wal
    assert found.servers * server.cores >= found.server_cores * 0.999


@given(_RATES, _RATES, _CONSTANTS, _SERVERS)
def test_more_events_never_need_less(one: float, other: float, constants: Constants, server: Server) -> None:
    small, great = (need(rate, constants, server) for rate in sorted((one, other)))
    assert small.workers <= great.workers
    assert small.servers <= great.servers
    assert small.disk_a_day <= great.disk_a_day


def test_it_says_what_bounds_a_server() -> None:
    constants = Constants(
        worker_rate=20_000, worker_cpu=1e-5, backend_cpu=2e-5, second_session=2.0, wal=1_000, disk=800
    )
    assert need(100_000, constants, Server(cores=16, wal=200e6)).limit == "WAL"
    assert need(100_000, constants, Server(cores=2, wal=200e6)).limit == "cores"
    assert need(100_000, constants, Server(cores=2, wal=200e6)).servers == 2


def test_the_page_has_the_table_of_the_committed_result() -> None:
    root = Path(__file__).parents[2]
    result = json.loads((root / "benchmarks" / "results" / "latest.json").read_text())
    expected = "\n".join(f"| {' | '.join(row)} |" for row in rows(result, Server()))
    assert expected in (root / "docs" / "scaling.md").read_text()
