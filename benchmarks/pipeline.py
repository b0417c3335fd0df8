"""Workers, end to end from Kafka, beside the limit: the server's own COPY of the same rows from a file into a
table with the same indexes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.history import Past, fill
from benchmarks.servers import Servers, Topic

__all__ = ["Case", "Round", "cpu_seconds", "measure_round", "peak_mib", "prepared", "wal_bytes"]

_DEADLINE = 900.0
_LAST = "SELECT last_value FROM penstock.event_sequence"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured against what."""

    indexes: str = "full"
    workers: int = 1
    """As many sessions share the limit's COPY."""
    arguments: tuple[str, ...] = ()
    """For `penstock worker`; none: without a metrics endpoint."""
    before: Past | None = None
    """What is done to the new database first."""

    @property
    def origin(self) -> Case:
        """The same for cases that begin with equal databases."""
        return Case(indexes=self.indexes, before=self.before)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: records/s of the workers, rows/s of the limit; CPU seconds per million of each, WAL bytes of
    each, MiB of the greatest worker, bytes on disk of a stored event with its indexes.
    """

    worker_rate: float
    limit_rate: float
    worker_cpu: float
    backend_cpu: float
    limit_cpu: float
    worker_wal: float
    limit_wal: float
    worker_memory: float
    worker_disk: float

    @property
    def ratio(self) -> float:
        return self.worker_rate / self.limit_rate


@contextmanager
def prepared(servers: Servers, case: Case) -> Iterator[str]:
    """A database as the case has it at first: to be copied for each round."""
    with servers.database(case.indexes) as name:
        if case.before:
            asyncio.run(fill(servers.admin(name), case.before))
        yield name


def measure_round(servers: Servers, topic: Topic, case: Case, *, like: str) -> Round:
    """Workers, with a copy of the database `like`, then the limit with the rows they stored."""
    with servers.database(case.indexes, like=like) as name:
        return asyncio.run(_measure(servers, topic, case, name))


async def _measure(servers: Servers, topic: Topic, case: Case, name: str) -> Round:
    connection = await asyncpg.connect(servers.admin(name), timeout=10, command_timeout=_DEADLINE)
    try:
        # It exists by then, as on any day but the first; and the limit needs its rows alone.
        await connection.execute("SELECT penstock.ensure_partitions(1), penstock.roll()")
        # Where the history is not partitioned, it lies in the worker's own partition.
        already, filled = await connection.fetchval(_LAST), await _leaf_bytes(connection)
        worker = await _work(servers, topic, case, name, connection)
        worker["worker_disk"] = (await _leaf_bytes(connection) - filled) / topic.events
        limit = await _limit(servers, name, connection, topic.events, case.workers, after=already)
        return Round(**worker, **limit)
    finally:
        await connection.close(timeout=10)


async def _work(
    servers: Servers, topic: Topic, case: Case, name: str, connection: asyncpg.Connection
) -> dict[str, float]:
    await connection.execute("CHECKPOINT")
    before = await wal_bytes(connection)
    group = f"bench-{uuid.uuid4().hex[:8]}"
    with ExitStack() as running:
        processes = [
            running.enter_context(servers.worker(name, topic.name, group, *case.arguments))
            for _ in range(case.workers)
        ]
        backends = await _claimed(connection, processes)
        started, spent = time.monotonic(), sum(cpu_seconds(each.pid) for each in processes)
        done = await _records(connection)
        if done > topic.records / 2:
            raise RuntimeError(
                f"{done} of {topic.records} records were stored before every worker had its share:"
                " too few to measure. Give --events more"
            )
        await _all_committed(connection, processes, topic.records)
        seconds, records = time.monotonic() - started, topic.records - done
        spent = sum(cpu_seconds(each.pid) for each in processes) - spent
        memory = max(peak_mib(each.pid) for each in processes)
        backend = sum(map(cpu_seconds, backends))
    stored = await connection.fetchval(
        "SELECT sum(stored)::bigint FROM penstock.ingested WHERE topic = $1", topic.name
    )
    if stored != topic.events:
        raise RuntimeError(f"{stored} rows of {topic.events} events")
    return {
        "worker_rate": records / seconds,
        "worker_cpu": spent / records * 1e6,
        "backend_cpu": backend / topic.records * 1e6,
        "worker_wal": (await wal_bytes(connection) - before) / topic.records,
        "worker_memory": memory,
    }


async def _claimed(connection: asyncpg.Connection, processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until every worker has claimed its share, which ends the start; the pids of their backends."""
    while True:
        found = await connection.fetch(
            "SELECT DISTINCT owner_pid FROM penstock.offsets WHERE owner_pid IS NOT NULL"
        )
        if len(found) >= len(processes):
            return [row["owner_pid"] for row in found]
        await _pause(processes)


async def _records(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM penstock.offsets"))


async def _all_committed(
    connection: asyncpg.Connection, processes: Sequence[subprocess.Popen[bytes]], count: int
) -> None:
    """Wait until the offsets of `count` records are visible, as a reader sees them."""
    end = time.monotonic() + _DEADLINE
    while await _records(connection) < count:
        if time.monotonic() > end:
            raise RuntimeError(f"the workers did not store {count} records within {_DEADLINE:g} s")
        await _pause(processes)


async def _pause(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is not None:
            raise RuntimeError(f"a worker ended with exit code {process.returncode}")
    await asyncio.sleep(0.02)


async def _leaf_bytes(connection: asyncpg.Connection) -> int:
    """Of the current partition, with its indexes."""
    size: Any = await connection.fetchval(
        "SELECT pg_total_relation_size(format('penstock.%I', name)) FROM penstock.partitions"
        " WHERE state = 'current'"
    )
    return int(size)


async def _limit(
    servers: Servers, name: str, connection: asyncpg.Connection, count: int, sessions: int, *, after: int
) -> dict[str, float]:
    leaf = await connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    others = [await asyncpg.connect(servers.admin(name), timeout=10) for _ in range(sessions)]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101 - the server writes and reads the files, under its own user
        for part in range(sessions):
            await connection.execute(
                f"COPY (SELECT * FROM penstock.{leaf}"
                f" WHERE sequence > {after} AND sequence % {sessions} = {part} ORDER BY sequence)"
                f" TO '{folder}/{part}' (FORMAT binary)"
            )
        await connection.execute(f"CREATE TABLE penstock.limit_leaf (LIKE penstock.{leaf} INCLUDING ALL)")
        await connection.execute("CHECKPOINT")
        before, spent = await wal_bytes(connection), sum(_backend_cpu(other) for other in others)
        start = time.perf_counter()
        await asyncio.gather(
            *(
                other.execute(f"COPY penstock.limit_leaf FROM '{folder}/{part}' (FORMAT binary)", timeout=600)
                for part, other in enumerate(others)
            )
        )
        seconds = time.perf_counter() - start
    figures = {
        "limit_rate": count / seconds,
        "limit_cpu": (sum(_backend_cpu(other) for other in others) - spent) / count * 1e6,
        "limit_wal": (await wal_bytes(connection) - before) / count,
    }
    for other in others:
        await other.close(timeout=10)
    return figures


def _backend_cpu(connection: asyncpg.Connection) -> float:
    return cpu_seconds(connection.get_server_pid())


async def wal_bytes(connection: asyncpg.Connection) -> int:
    """How much was ever written."""
    written: Any = await connection.fetchval(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
    )
    return int(written)


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of a process (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process ever had in use."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
