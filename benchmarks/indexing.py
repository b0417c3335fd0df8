"""What each index costs on the way in: the server's own COPY of the same rows, with all indexes, without one,
without any; and what it costs to build one on rows that are there, as when a partition closes.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any

import asyncpg

from benchmarks.history import unpartitioned
from benchmarks.pipeline import cpu_seconds
from benchmarks.servers import Servers
from penstock_store.leaf_indexes import LEAF_INDEXES

__all__ = ["measure_indexes"]

_DEADLINE = 900.0
_PROBE = """
SELECT count(*) FROM (SELECT FROM penstock.trial WHERE payload @> '{"amount": 12345}' LIMIT 100) AS page
"""


def measure_indexes(servers: Servers, count: int) -> dict[str, float]:
    """PostgreSQL's CPU in µs a row: `copy_full`, `copy_lean`, `copy_without_<index>`, `build_<index>`; and
    `find_payload_ms`, CPU in ms of a search by payload among `count` rows that has no index.
    """
    with servers.database("lean") as name:
        return asyncio.run(_measure(servers.admin(name), count))


async def _measure(url: str, count: int) -> dict[str, float]:
    connection = await asyncpg.connect(url, timeout=10, command_timeout=_DEADLINE)
    cases = {"copy_full": LEAF_INDEXES, "copy_lean": ()} | {
        f"copy_without_{left}": tuple(name for name in LEAF_INDEXES if name != left) for left in LEAF_INDEXES
    }
    try:
        await unpartitioned(count)(connection)
        leaf = await connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            os.chmod(folder, 0o777)  # noqa: PTH101 - the server writes and reads the file, under its own user
            file = f"'{folder}/rows' (FORMAT binary)"
            await connection.execute(f"COPY penstock.{leaf} TO {file}")
            found = {}
            for case, indexes in cases.items():
                await connection.execute("DROP TABLE IF EXISTS penstock.trial")
                await connection.execute(f"CREATE TABLE penstock.trial (LIKE penstock.{leaf} INCLUDING ALL)")
                await connection.execute("SELECT penstock.create_leaf_indexes('trial', $1)", indexes)
                await connection.execute("CHECKPOINT")
                found[case] = await _spent(connection, f"COPY penstock.trial FROM {file}") / count * 1e6
        return found | await _built(connection, count)
    finally:
        await connection.close(timeout=10)


async def _built(connection: asyncpg.Connection, count: int) -> dict[str, float]:
    await connection.execute("DROP INDEX penstock.trial_payload")
    await connection.execute("SET max_parallel_workers_per_gather = 0")
    await connection.execute("SET max_parallel_maintenance_workers = 0")  # one process, whose CPU is counted
    found = {"find_payload_ms": await _spent(connection, _PROBE, times=3) * 1e3}
    for index in LEAF_INDEXES:
        await connection.execute(f"DROP INDEX IF EXISTS penstock.trial_{index}")
        spent = await _spent(connection, "SELECT penstock.create_leaf_indexes('trial', $1)", [index])
        found[f"build_{index}"] = spent / count * 1e6
    return found


async def _spent(connection: asyncpg.Connection, statement: str, *values: Any, times: int = 1) -> float:
    """CPU seconds of the backend, for one execution."""
    before = cpu_seconds(connection.get_server_pid())
    for _ in range(times):
        await (connection.execute(statement, *values) if values else connection.execute(statement))
    return (cpu_seconds(connection.get_server_pid()) - before) / times
