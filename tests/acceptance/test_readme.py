"""The README's example, as it stands there but for the addresses."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

from fixtures.databases import Database
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for_async
from fixtures.workers import StartWorker

README = Path(__file__).parents[2] / "README.md"


async def test_the_fifteen_lines_reach_postgresql(
    kafka: str, topic: TopicFactory, database: Database, registry: str, start_worker: StartWorker
) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    name = topic(prefix="orders")
    example = found[1]
    for written, meant in {
        "localhost:9092": kafka,
        "http://localhost:8081": registry,
        'topic="orders"': f'topic="{name}"',
    }.items():
        assert written in example
        example = example.replace(written, meant)
    exec(compile(example, str(README), "exec"), {"__name__": "readme"})

    start_worker(
        {
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "PENSTOCK_DATABASE_URL": database.url,
            "PENSTOCK_WORKER_DATABASE_URL": database.writer_url,
            "PENSTOCK_SCHEMA_REGISTRY_URL": registry,
        },
        "--topic",
        name,
    )
    connection = await asyncpg.connect(database.url)
    try:

        async def both() -> bool:
            rows = await connection.fetch("SELECT event_type FROM penstock.events ORDER BY sequence")
            return [row["event_type"] for row in rows] == ["order.placed", "order.noted"]

        await wait_for_async(both, 30, "both events in their order")
    finally:
        await connection.close()
