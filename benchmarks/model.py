"""What a rate needs, from the constants of a result: `python -m benchmarks model`. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Constants", "Need", "Server", "need", "print_model", "rows"]

_SPARE = 0.7  # of what a worker or a server can do, the share that is planned with: the rest catches up
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Constants:
    """One index set on one machine. Rates in events/s, CPU in seconds an event, sizes in bytes an event."""

    worker_rate: float
    worker_cpu: float
    backend_cpu: float
    second_session: float
    """Rate of two COPY sessions ÷ that of one."""
    wal: float
    disk: float

    @classmethod
    def of(cls, result: Mapping[str, Any], indexes: str) -> Constants:
        """From `results/latest.json`; `indexes`: full or lean. Raises KeyError where a figure is missing."""
        one, two = f"worker_{indexes}", f"workers2_{indexes}"
        rates, cpu = result["events_per_s"], result["cpu_s_per_million"]
        return cls(
            worker_rate=rates[f"worker:{one}"],
            worker_cpu=cpu[f"worker:{one}"] / 1e6,
            backend_cpu=cpu[f"backend:{one}"] / 1e6,
            second_session=rates[f"limit:{two}"] / rates[f"limit:{one}"],
            wal=result["wal_bytes_per_event"][f"worker:{one}"],
            disk=result["disk_bytes_per_event"][f"worker:{one}"],
        )


@dataclass(frozen=True, kw_only=True)
class Server:
    """A PostgreSQL server: cores, and bytes/s of WAL that its disk and its replicas take for hours."""

    cores: int = 16
    wal: float = 200e6


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a rate needs. `workers` are also connections, and the fewest Kafka partitions."""

    workers: int
    worker_cores: float
    servers: int
    limit: str
    """What bounds one server: its cores or its WAL."""
    server_cores: float
    wal: float
    disk_a_day: float


def need(rate: float, constants: Constants, server: Server) -> Need:
    """What `rate` events/s need, with a spare 30 % to catch up with."""
    planned = rate / _SPARE
    # Each doubling of the sessions brings what the second one did: never more than their number.
    efficiency = min(1.0, constants.second_session / 2) ** math.log2(max(1, server.cores))
    by_cores = server.cores * efficiency / constants.backend_cpu
    by_wal = server.wal / constants.wal
    return Need(
        workers=math.ceil(planned / constants.worker_rate),
        worker_cores=planned * constants.worker_cpu,
        servers=math.ceil(planned / min(by_cores, by_wal)),
        limit="cores" if by_cores < by_wal else "WAL",
        server_cores=planned * constants.backend_cpu,
        wal=rate * constants.wal,
        disk_a_day=rate * constants.disk * _DAY,
    )


def rows(result: Mapping[str, Any], server: Server) -> Iterator[tuple[str, ...]]:
    """The table, a line each; `docs/scaling.md` has it."""
    for rate in (10_000, 100_000, 1_000_000):
        for indexes in ("full", "lean"):
            found = need(rate, Constants.of(result, indexes), server)
            yield (
                f"{rate:,}",
                indexes,
                f"{found.workers:,}",
                f"{found.worker_cores:,.1f}",
                f"{found.servers:,}",
                found.limit,
                f"{found.server_cores:,.1f}",
                f"{found.wal / 1e6:,.0f}",
                f"{found.disk_a_day / 1e9:,.0f}",
            )


def print_model(result: Mapping[str, Any], server: Server) -> None:
    """The table, to standard output."""
    table = Table(title=f"What a rate needs, PostgreSQL servers of {server.cores} cores")
    headings = ("events/s", "indexes", "workers", "their cores", "servers", "bound by", "their cores")
    for heading in (*headings, "WAL MB/s", "disk GB/day"):
        table.add_column(heading, justify="right")
    for row in rows(result, server):
        table.add_row(*row)
    Console(width=120).print(table)
