"""From emit to readable and to a live subscriber, at a steady rate."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
import uuid
from typing import Any

import asyncpg

from benchmarks.servers import Servers, Topic
from penstock_store.queries import PostgresEventStore, QueryOptions, ReaderSettings

_POLL = 0.002  # seconds between two looks of the one that polls: part of what is measured
_EMIT = """
import sys, time
from penstock_producer import Producer
from penstock_schemas import Event
kafka, registry, topic, rate, seconds = *sys.argv[1:4], float(sys.argv[4]), float(sys.argv[5])
with Producer(kafka, topic=topic, schema_registry_url=registry) as producer:
    started, emitted = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        for number in range(emitted, int(passed * rate)):
            producer.emit(Event(event_type="ping", entity_id=f"e-{number % 1000}"))
            emitted += 1
        time.sleep(0.0005)
"""


def measure_latency(servers: Servers, rate: int, seconds: float) -> dict[str, float]:
    """Milliseconds: p50 and p99 of emit → readable (a reader that polls) and emit → live (a subscriber)."""
    with (
        servers.database("full") as name,
        servers.topic() as topic,
        servers.worker(name, topic.name, f"bench-{uuid.uuid4().hex[:8]}"),
    ):
        return asyncio.run(_measure(servers, name, topic, rate, seconds))


async def _measure(servers: Servers, name: str, topic: Topic, rate: int, seconds: float) -> dict[str, float]:
    connection = await asyncpg.connect(servers.admin(name), timeout=10, command_timeout=60)
    claimed = "SELECT count(*) FROM penstock.offsets WHERE owner_pid IS NOT NULL"
    while not await connection.fetchval(claimed):  # noqa: ASYNC110 - a row in a database
        await asyncio.sleep(0.05)
    readable: list[float] = []
    live: list[float] = []
    async with PostgresEventStore(ReaderSettings(dsn=servers.admin(name))) as store:
        watching = [
            asyncio.create_task(_poll(connection, readable)),
            asyncio.create_task(_subscribe(store, live)),
        ]
        arguments = (servers.kafka, servers.registry, topic.name, str(rate), str(seconds))
        emitter = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _EMIT, *arguments, stdout=subprocess.DEVNULL
        )
        if await emitter.wait():
            raise RuntimeError(f"the emitter ended with exit code {emitter.returncode}")
        await asyncio.sleep(1)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    await connection.close(timeout=10)
    return {**_cuts("readable", readable), **_cuts("live", live), "events": len(live)}


async def _poll(connection: asyncpg.Connection, found: list[float]) -> None:
    last = 0
    while True:
        rows = await connection.fetch(
            "SELECT sequence, occurred_at FROM penstock.events"
            " WHERE sequence > $1 AND sequence <= penstock.safe_sequence() ORDER BY sequence",
            last,
        )
        now = time.time()
        found += [now - row["occurred_at"].timestamp() for row in rows]
        last = rows[-1]["sequence"] if rows else last
        await asyncio.sleep(_POLL)


async def _subscribe(store: Any, found: list[float]) -> None:
    async for event in store.subscribe(0, QueryOptions()):
        found.append(time.time() - event.occurred_at.timestamp())  # noqa: PERF401 - one by one, when it comes


def _cuts(name: str, seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        raise RuntimeError(f"{len(seconds)} events were {name}: too few to say anything")
    cuts = statistics.quantiles(seconds, n=100)
    return {f"{name}_p50": round(cuts[49] * 1000, 1), f"{name}_p99": round(cuts[98] * 1000, 1)}
