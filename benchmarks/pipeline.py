"""One worker, end to end from Kafka, beside the limit: the server's own COPY of the same rows from a file
into a table with the same indexes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.servers import Servers

_DEADLINE = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: events/s, CPU seconds per million events, WAL bytes per event, MiB."""

    worker_rate: float
    limit_rate: float
    worker_cpu: float
    backend_cpu: float
    limit_cpu: float
    worker_wal: float
    limit_wal: float
    worker_memory: float

    @property
    def ratio(self) -> float:
        return self.worker_rate / self.limit_rate


def measure_round(servers: Servers, indexes: str) -> Round:
    """One worker from an empty store, then the limit with the rows it stored."""
    with servers.database(indexes) as name:
        return asyncio.run(_measure(servers, name))


async def _measure(servers: Servers, name: str) -> Round:
    connection = await asyncpg.connect(servers.admin(name), timeout=10, command_timeout=_DEADLINE)
    try:
        worker = await _worker(servers, name, connection)
        limit = await _limit(connection, servers.count)
        return Round(**worker, **limit)
    finally:
        await connection.close(timeout=10)


async def _worker(servers: Servers, name: str, connection: asyncpg.Connection) -> dict[str, float]:
    await connection.execute("CHECKPOINT")
    before = await _wal(connection)
    with servers.worker(name) as process:
        backend = await _claimed(connection, process)
        started, cpu_before = time.monotonic(), _cpu(process.pid)
        await _all_committed(connection, process, servers.count)
        seconds = time.monotonic() - started
        cpu, memory = _cpu(process.pid) - cpu_before, _peak_mib(process.pid)
        backend_cpu = _cpu(backend)
    stored = await connection.fetchval("SELECT count(*) FROM penstock.events")
    if stored != servers.count:
        raise RuntimeError(f"{stored} rows of {servers.count} events")
    millions = servers.count / 1e6
    return {
        "worker_rate": servers.count / seconds,
        "worker_cpu": cpu / millions,
        "backend_cpu": backend_cpu / millions,
        "worker_wal": (await _wal(connection) - before) / servers.count,
        "worker_memory": memory,
    }


async def _claimed(connection: asyncpg.Connection, process: subprocess.Popen[bytes]) -> int:
    """Wait for the worker's claim, which ends its start; returns the pid of its backend."""
    while True:
        backend = await connection.fetchval("SELECT max(owner_pid) FROM penstock.offsets")
        if backend:
            return int(backend)
        await _pause(process)


async def _all_committed(
    connection: asyncpg.Connection, process: subprocess.Popen[bytes], count: int
) -> None:
    """Wait until the offsets of `count` records are visible, as a reader sees them."""
    end = time.monotonic() + _DEADLINE
    while (await connection.fetchval("SELECT sum(next_offset) FROM penstock.offsets") or 0) < count:
        if time.monotonic() > end:
            raise RuntimeError(f"the worker did not store {count} events within {_DEADLINE:g} s")
        await _pause(process)


async def _pause(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"the worker ended with exit code {process.returncode}")
    await asyncio.sleep(0.02)


async def _limit(connection: asyncpg.Connection, count: int) -> dict[str, float]:
    leaf = await connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101 - the server writes and reads the file, under its own user
        file = f"{folder}/rows"
        await connection.execute(
            f"COPY (SELECT * FROM penstock.{leaf} ORDER BY sequence) TO '{file}' (FORMAT binary)"
        )
        await connection.execute(f"CREATE TABLE penstock.limit_leaf (LIKE penstock.{leaf} INCLUDING ALL)")
        await connection.execute("CHECKPOINT")
        before, cpu = await _wal(connection), _cpu(connection.get_server_pid())
        start = time.perf_counter()
        await connection.execute(f"COPY penstock.limit_leaf FROM '{file}' (FORMAT binary)")
        seconds = time.perf_counter() - start
    return {
        "limit_rate": count / seconds,
        "limit_cpu": (_cpu(connection.get_server_pid()) - cpu) / (count / 1e6),
        "limit_wal": (await _wal(connection) - before) / count,
    }


async def _wal(connection: asyncpg.Connection) -> int:
    return int(
        await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    )


def _cpu(pid: int) -> float:
    """User and system CPU seconds of a process (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
