"""From emit to readable and to a live subscriber, at a steady rate."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
import uuid

import asyncpg

from benchmarks.servers import Servers, Topic
from penstock_schemas import RecordedEvent
from penstock_store.queries import PostgresEventStore, QueryOptions, ReaderSettings

_POLL = 0.002  # seconds between two looks of the one that polls: part of what is measured
_WARM = 1.0  # seconds until everybody has connected, learnt the schema and prepared their statements
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
    """Milliseconds: p50 and p99 of emit → readable (a reader that polls) and emit → live (a subscriber),
    without those of the first second.
    """
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
    readable, live = Seen(), Seen()
    async with PostgresEventStore(ReaderSettings(dsn=servers.admin(name))) as store:
        watching = [
            asyncio.create_task(_poll(store, readable)),
            asyncio.create_task(_subscribe(store, live)),
        ]
        arguments = (servers.kafka, servers.registry, topic.name, str(rate), str(_WARM + seconds))
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
    return {**readable.cuts("readable"), **live.cuts("live"), "events": len(live)}


class Seen:
    """When events were seen, and how long after they occurred; in seconds."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []

    def __call__(self, event: RecordedEvent, now: float) -> None:
        self._found.append((now, now - event.occurred_at.timestamp()))

    def cuts(self, name: str) -> dict[str, float]:
        """p50 and p99 in milliseconds."""
        warm = self._found[0][0] + _WARM if self._found else 0.0
        seconds = [taken for at, taken in self._found if at >= warm]
        if len(seconds) < 2:
            raise RuntimeError(f"{len(seconds)} events were {name}: too few to say anything")
        cuts = statistics.quantiles(seconds, n=100)
        return {f"{name}_p50": round(cuts[49] * 1000, 1), f"{name}_p99": round(cuts[98] * 1000, 1)}

    def __len__(self) -> int:
        return len(self._found)


async def _poll(store: PostgresEventStore, seen: Seen) -> None:
    last = 0
    while True:
        async for event in store.stream(QueryOptions(after_sequence=last)):
            seen(event, time.time())
            last = event.sequence
        await asyncio.sleep(_POLL)


async def _subscribe(store: PostgresEventStore, seen: Seen) -> None:
    async for event in store.subscribe(0, QueryOptions()):
        seen(event, time.time())
