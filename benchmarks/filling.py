"""A store filled by the server itself: any number of events over any number of partitions, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = timedelta(hours=1)

# Numbers decide everything, so that two stores of equal counts hold equal events. Of the ids one in ten is no
# UUIDv7, as foreign ones are; events come a few seconds late; every column is selective but tenant and
# half of the types.
_FILL = """
INSERT INTO penstock.{leaf} (sequence, recorded_at, event_id, event_type, occurred_at, actor_type, actor_id,
    entity_id, tenant_id, correlation_id, causation_id, schema_version, idempotency_key, content_hash,
    payload, metadata)
SELECT n, at, id::uuid, CASE WHEN n % 2 = 0 THEN 'order.step' ELSE 'order.step_' || n % 199 END,
    at - make_interval(secs => (n * 7919 % 5000) / 1000.0), 'user', 'user-' || n % 4999,
    'order-' || n % 99991, 'tenant-' || n % 3, 'cart-' || n / 5, NULL, 1, id, decode(digest, 'hex'),
    jsonb_build_object('amount', n % 100003, 'currency', 'EUR', 'note', digest),
    jsonb_build_object('tags', jsonb_build_array('bench', 'tag-' || n % 9973))
FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT $3::timestamptz + ($4::timestamptz - $3) * ((n - $1)::float8 / ($2 - $1 + 1)) AS at,
                    md5(n::text) AS digest OFFSET 0) AS made,
    LATERAL (SELECT CASE WHEN n % 10 = 0 THEN digest ELSE
        lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3)
            || '8' || substr(digest, 4, 15) END AS id OFFSET 0) AS named
"""


async def fill(connection: Any, events: int, partitions: int, *, indexes: Sequence[str] = ("full",)) -> None:
    """`events` events in a new store, equally over `partitions` partitions of an hour; the last is current.

    `connection`: the owner's. Indexes are built on full partitions, which is quicker than row by row.
    """
    await connection.execute(
        "UPDATE penstock.settings SET leaf_indexes = '{lean}', partition_interval = '1 hour'"
    )
    bounds = [events * part // partitions for part in range(partitions + 1)]
    leaf = None
    for part, (before, last) in enumerate(pairwise(bounds)):
        lower = START + part * INTERVAL
        filled, leaf = leaf, await connection.fetchval("SELECT penstock.create_partition($1)", lower)
        await connection.execute("SELECT penstock.roll($1)", lower)
        await connection.execute(_FILL.format(leaf=leaf), before + 1, last, lower, lower + INTERVAL)
        await connection.execute("SELECT penstock.create_leaf_indexes($1, $2)", leaf, list(indexes))
        await connection.execute("SELECT setval('penstock.event_sequence', $1)", last)
        if filled is not None:
            await connection.execute("SELECT penstock.close_partition($1)", filled)
            await connection.execute("SELECT penstock.validate_partition($1)", filled)
    await connection.execute("UPDATE penstock.settings SET leaf_indexes = $1", list(indexes))
    await connection.execute("UPDATE penstock.partitions SET indexes = $1", list(indexes))
    await connection.execute("SELECT penstock.publish()")
    await connection.execute("VACUUM ANALYZE penstock.events")
    await connection.execute("VACUUM ANALYZE penstock.prints")
