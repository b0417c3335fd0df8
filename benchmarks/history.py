"""A past for the store: closed partitions of an hour each, filled by the server itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

_DEADLINE = 1_800.0  # seconds: ten million rows take minutes
_FILL = """
INSERT INTO penstock.{leaf} (sequence, recorded_at, event_id, event_type, occurred_at, actor_type, actor_id,
    entity_id, tenant_id, correlation_id, causation_id, schema_version, idempotency_key, content_hash,
    payload, metadata)
SELECT n, at, id::uuid, 'order.step_' || n % 10, at, 'user', 'user-' || n % 500, 'order-' || n % 10000,
    'default', 'order-' || n % 10000, NULL, 1, id, decode(digest, 'hex'),
    jsonb_build_object('amount', n % 100003, 'currency', 'EUR', 'note', digest), '{{"tags": ["bench"]}}'
FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT md5(n::text) AS digest,
        $3::timestamptz + make_interval(secs => 3599.0 * (n - $1) / ($2 - $1 + 1)) AS at OFFSET 0) AS made,
    LATERAL (SELECT (CASE WHEN $4 THEN digest ELSE
        lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3)
            || '8' || substr(digest, 4, 15) END)::uuid::text AS id OFFSET 0) AS named
"""


Past = Callable[[asyncpg.Connection], Awaitable[None]]
"""What makes a history in a new store."""


async def fill(url: str, past: Past) -> None:
    """Give the store at `url`, its owner's, that past."""
    connection = await asyncpg.connect(url, timeout=10, command_timeout=_DEADLINE)
    try:
        await past(connection)
    finally:
        await connection.close(timeout=10)


def past(partitions: int, rows: int, *, random_keys: bool = False) -> Past:
    """What fills `partitions` closed partitions, the last of them an hour ago, with `rows` rows each."""

    async def make(connection: asyncpg.Connection) -> None:
        await connection.execute("UPDATE penstock.settings SET partition_interval = interval '1 hour'")
        hours = await connection.fetch(
            "SELECT date_trunc('hour', clock_timestamp()) - make_interval(hours => h) AS hour"
            " FROM generate_series($1::int, 0, -1) AS h",
            partitions,
        )
        leaves = [
            await connection.fetchval("SELECT penstock.create_partition($1)", row["hour"]) for row in hours
        ]
        for number, (leaf, row) in enumerate(zip(leaves[:-1], hours, strict=False)):
            await connection.execute("SELECT penstock.roll($1)", row["hour"])
            first = number * rows + 1
            await connection.execute(
                _FILL.format(leaf=leaf), first, first + rows - 1, row["hour"], random_keys
            )
        await connection.execute("SELECT penstock.roll($1)", hours[-1]["hour"])
        await connection.execute("SELECT setval('penstock.event_sequence', $1)", partitions * rows)
        for leaf in leaves[:-1]:
            await connection.execute("SELECT penstock.close_partition($1)", leaf)
            await connection.execute("SELECT penstock.validate_partition($1)", leaf)
        await _settled(connection)

    return make


def unpartitioned(rows: int, *, random_keys: bool = False) -> Past:
    """What fills the current partition, which will hold all there is: one table, however much history."""

    async def make(connection: asyncpg.Connection) -> None:
        await connection.execute("SELECT penstock.ensure_partitions(1), penstock.roll()")
        leaf, lower = await connection.fetchrow(
            "SELECT name, lower FROM penstock.partitions WHERE state = 'current'"
        )
        await connection.execute(_FILL.format(leaf=leaf), 1, rows, lower, random_keys)
        await connection.execute("SELECT setval('penstock.event_sequence', $1)", rows)
        await _settled(connection)

    return make


async def _settled(connection: asyncpg.Connection) -> None:
    """Nothing is left that autovacuum would do while something is measured."""
    await connection.execute("SELECT penstock.publish()")
    await connection.execute("VACUUM ANALYZE penstock.events")
