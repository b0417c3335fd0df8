"""Reads of a filled store beside a bare asyncpg cursor: `python -m benchmarks.reading URL`.

The store is any that holds events, such as the one `penstock demo` leaves behind; nothing is written to it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

import asyncpg
import typer

from penstock_store.postgresql._rows import COLUMNS
from penstock_store.queries import OrderBy, PostgresEventStore, QueryOptions, ReaderSettings

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM penstock.events ORDER BY sequence"
_PREFETCHES = {"default": 50, "tuned": 500}  # rows; 500 was about the fastest of 50 to 5,000


async def _bare(url: str, prefetch: int) -> tuple[int, float]:
    connection = await asyncpg.connect(url)
    started, count = time.perf_counter(), 0
    async with connection.transaction():
        async for _ in connection.cursor(_SELECT, prefetch=prefetch):
            count += 1
    taken = time.perf_counter() - started
    await connection.close()
    return count, taken


async def _stream(store: PostgresEventStore) -> tuple[int, float]:
    started, count = time.perf_counter(), 0
    async for _ in store.stream():
        count += 1
    return count, time.perf_counter() - started


async def measure_stream(url: str, rounds: int) -> dict[str, float]:
    """Events/s of `stream()` and of a bare cursor with a tuned prefetch, and the median of their ratios."""
    streams, cursors = [], []
    async with PostgresEventStore(ReaderSettings(dsn=url)) as store:
        for _ in range(rounds):
            count, taken = await _stream(store)
            streams.append(count / taken)
            read, taken = await _bare(url, _PREFETCHES["tuned"])
            cursors.append(read / taken)
    ratios = [stream / cursor for stream, cursor in zip(streams, cursors, strict=True)]
    return {
        "stream": round(statistics.median(streams)),
        "cursor": round(statistics.median(cursors)),
        "ratio": round(statistics.median(ratios), 3),
    }


async def _latencies(work: Callable[[], Awaitable[Any]], times: int) -> dict[str, float]:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - started) * 1_000)
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_ms": round(cuts[49], 2), "p95_ms": round(cuts[94], 2), "p99_ms": round(cuts[98], 2)}


async def _measure(url: str, rounds: int, times: int) -> dict[str, Any]:
    async with PostgresEventStore(ReaderSettings(dsn=url)) as store:
        rates: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            count, taken = await _stream(store)
            if not count:
                raise typer.BadParameter("the store is empty; fill it, by `penstock demo` for example")
            rates["stream"].append(count / taken)
            for name, prefetch in _PREFETCHES.items():
                read, taken = await _bare(url, prefetch)
                rates[name].append(read / taken)
        sample = (await store.get_events(QueryOptions(descending=True, limit=1))).events[0]
        middle = sample.sequence // 2
        queries = {
            "first page": QueryOptions(),
            "page in the middle": QueryOptions(after_sequence=middle),
            "newest by time": QueryOptions(order_by=OrderBy.TIME, descending=True),
            "type by time": QueryOptions(event_types=[sample.event_type], order_by=OrderBy.TIME),
            "entity": QueryOptions(entity_id=sample.entity_id),
            "correlation": QueryOptions(correlation_id=sample.correlation_id, order_by=OrderBy.TIME),
        }
        pages = {
            name: await _latencies(lambda o=o: store.get_events(o), times) for name, o in queries.items()
        }
        pages["event by id"] = await _latencies(partial(store.get_event, sample.event_id), times)
    middles = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "events": count,
        "per_second": {name: round(rate) for name, rate in middles.items()},
        "stream_to_cursor": {name: round(middles["stream"] / middles[name], 3) for name in _PREFETCHES},
        "pages_of_100": pages,
    }


def main(
    url: Annotated[str, typer.Argument(help="The store, as postgresql://reader@host/db.")],
    rounds: Annotated[int, typer.Option(min=1, help="Of each kind, interleaved; the median counts.")] = 5,
    times: Annotated[int, typer.Option(min=10, help="Repetitions of each query.")] = 100,
) -> None:
    """Print one JSON object."""
    print(json.dumps(asyncio.run(_measure(url, rounds, times)), indent=2))


if __name__ == "__main__":
    typer.run(main)
