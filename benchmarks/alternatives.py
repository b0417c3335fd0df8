"""What a user might write instead: rows in memory into the same indexed table, with the same unique keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from benchmarks.events import Load, events
from benchmarks.servers import Servers
from penstock_schemas import EventFields

_BATCH = 5_000
_COLUMNS = ", ".join(("sequence", "recorded_at", *EventFields._fields))
_TYPES = (
    *("bigint", "timestamptz", "uuid", "text", "timestamptz", *["text"] * 6),
    *("int", "text", "bytea", "jsonb", "jsonb"),
)
_VALUES = ", ".join(f"${number}" for number in range(1, 17))
_INTO = f"INSERT INTO penstock.{{leaf}} ({_COLUMNS})"
_IGNORE = "ON CONFLICT (tenant_id, idempotency_key) DO NOTHING"

Rows = list[tuple[Any, ...]]
Write = Callable[[asyncpg.Connection, str, Rows], Awaitable[None]]


async def _executemany(connection: asyncpg.Connection, leaf: str, rows: Rows) -> None:
    await connection.executemany(f"{_INTO.format(leaf=leaf)} VALUES ({_VALUES}) {_IGNORE}", rows)


async def _unnest(connection: asyncpg.Connection, leaf: str, rows: Rows) -> None:
    columns = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES, 1))
    await connection.execute(
        f"{_INTO.format(leaf=leaf)} SELECT * FROM unnest({columns}) {_IGNORE}", *zip(*rows, strict=True)
    )


async def _staging(connection: asyncpg.Connection, leaf: str, rows: Rows) -> None:
    await connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS staging (LIKE penstock.events) ON COMMIT DELETE ROWS"
    )
    await connection.copy_records_to_table("staging", records=rows, columns=_COLUMNS.split(", "))
    await connection.execute(f"{_INTO.format(leaf=leaf)} SELECT {_COLUMNS} FROM staging {_IGNORE}")


WRITES: dict[str, Write] = {"executemany": _executemany, "unnest": _unnest, "staging": _staging}


def measure_alternatives(servers: Servers, count: int, indexes: str) -> dict[str, float]:
    """Events/s of each, one session, batches of 5,000 rows that are made already."""
    rows = _rows(count)
    rates = {}
    for name, write in WRITES.items():
        with servers.database(indexes) as database:
            rates[name] = asyncio.run(_measure(servers.admin(database), rows, write))
    return rates


async def _measure(url: str, rows: Rows, write: Write) -> float:
    connection = await asyncpg.connect(url, timeout=10, command_timeout=600)
    try:
        await connection.execute("SELECT penstock.ensure_partitions(1), penstock.roll()")
        leaf = await connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
        now = await connection.fetchval("SELECT clock_timestamp()")
        await connection.execute("CHECKPOINT")
        start = time.perf_counter()
        for first in range(0, len(rows), _BATCH):
            numbered = [
                (number, now, *row) for number, row in enumerate(rows[first : first + _BATCH], first + 1)
            ]
            async with connection.transaction():
                await write(connection, leaf, numbered)
        return len(rows) / (time.perf_counter() - start)
    finally:
        await connection.close(timeout=10)


def _rows(count: int) -> Rows:
    return [
        (
            event.event_id, event.event_type, event.occurred_at, event.actor_type, event.actor_id,
            event.entity_id, event.tenant_id, event.correlation_id, event.causation_id,
            event.schema_version, event.idempotency_key, event.content_hash,
            event.payload_json.decode(), '{"tags":["bench"]}',
        )
        for event in events(Load(count=count))
    ]  # fmt: skip
