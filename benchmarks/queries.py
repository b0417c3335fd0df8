"""Typical queries of a filled store, in milliseconds, and an append beside a bare INSERT:
`python -m benchmarks.queries URL`.

URL is the owner's, of a new and empty store (`penstock migrate`), which is filled and left so. What many
partitions cost: `python -m benchmarks.queries --many --partitions 400 --events 400000`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Protocol

import asyncpg
import typer

from benchmarks.filling import fill
from penstock_schemas import Event
from penstock_store.postgresql.store import PostgresStore, StoreSettings
from penstock_store.queries import OrderBy, QueryOptions

_DEADLINE = 3_600.0
_INSERT = """
INSERT INTO penstock.bare (sequence, recorded_at, event_id, event_type, occurred_at, actor_type, actor_id,
    entity_id, tenant_id, correlation_id, causation_id, schema_version, idempotency_key, content_hash,
    payload, metadata)
VALUES (nextval('penstock.event_sequence'), clock_timestamp(), $1, $2, $3, $4, $5, $6, $7,
    $8, $9, $10, $11, $12, $13, $14)
"""
Work = Callable[[], Awaitable[Any]]


class Databases(Protocol):
    """What `benchmarks.servers` gives."""

    def database(self, indexes: str) -> AbstractContextManager[str]: ...

    def admin(self, database: str) -> str: ...


def run(
    servers: Databases, *, events: int = 1_000_000, partitions: int = 24, times: int = 100
) -> dict[str, float]:
    """Fill a store and measure it: `name.p50`, `.p95`, `.p99` in milliseconds; pages of 100 where not named
    otherwise.
    """
    with servers.database("full") as name:
        return asyncio.run(_filled(servers.admin(name), events, partitions, times))


def many_partitions(
    servers: Databases, *, events: int = 400_000, counts: tuple[int, int] = (4, 400), times: int = 30
) -> dict[str, float]:
    """The medians with `counts[1]` partitions ÷ those with `counts[0]`, of equal events."""
    found = []
    for count in counts:
        figures = run(servers, events=events, partitions=count, times=times)
        found.append({name: value for name, value in figures.items() if name.endswith(".p50")})
    few, many = found
    return {name.removesuffix(".p50"): round(many[name] / few[name], 2) for name in few}


async def _filled(url: str, events: int, partitions: int, times: int) -> dict[str, float]:
    connection = await asyncpg.connect(url, timeout=10, command_timeout=_DEADLINE)
    try:
        await fill(connection, events, partitions)
        async with PostgresStore(StoreSettings(dsn=url)) as store:
            work = await _reads(store, events)
            figures = await _measure(work, times)
            return figures | await _measure(await _writes(store, connection), 3 * times)
    finally:
        await connection.close(timeout=10)


async def _reads(store: PostgresStore, events: int) -> dict[str, Work]:
    middle = events // 2 // 10 * 10
    foreign, made = (await store.get_events(QueryOptions(after_sequence=middle - 1, limit=2))).events
    first = (await store.get_events(QueryOptions(limit=1))).events[0]
    last = (await store.get_events(QueryOptions(descending=True, limit=1))).events[0]
    span = (last.recorded_at - first.recorded_at) / 20
    at, by_time = made.occurred_at, {"order_by": OrderBy.TIME}
    deep = (await store.get_events(QueryOptions(after_sequence=middle))).next_cursor
    later = (await store.get_events(QueryOptions(since=at, **by_time))).next_cursor  # type: ignore[arg-type]
    pages: Mapping[str, Mapping[str, Any]] = {
        "first": {},
        "newest": {"descending": True},
        "deep_cursor": {"cursor": deep},
        "time": by_time,
        "time_newest": by_time | {"descending": True},
        "time_deep_cursor": by_time | {"cursor": later},
        "time_range": by_time | {"since": at, "until": at + span},
        "recorded_range": {"recorded_since": made.recorded_at, "recorded_until": made.recorded_at + span},
        "event_id": {"order_by": OrderBy.EVENT_ID},
        "type": {"event_types": [made.event_type]},
        "type_by_time": by_time | {"event_types": [made.event_type], "since": at - 2 * timedelta(hours=1)},
        "types": {"event_types": ["order.step_7", "order.step_9"]},
        "actor": {"actor_id": made.actor_id},
        "entity": {"entity_id": made.entity_id},
        "entity_by_time": by_time | {"entity_id": made.entity_id},
        "correlation": {"correlation_id": made.correlation_id},
        "tenant": {"tenant_id": made.tenant_id},
        "tags": {"tags": list(made.tags)},
        "payload": {"payload": {"amount": made.payload["amount"]}},
        "nothing": {"entity_id": "there is none"},
    }
    work: dict[str, Work] = {
        name: partial(store.get_events, QueryOptions(**values)) for name, values in pages.items()
    }
    work["get_event"] = lambda: store.get_event(made.event_id)
    work["get_event_foreign_id"] = lambda: store.get_event(foreign.event_id)
    work["get_event_absent"] = lambda: store.get_event(uuid.UUID(int=7))
    work["by_correlation"] = lambda: store.get_events_by_correlation(made.correlation_id)
    return work


async def _writes(store: PostgresStore, connection: Any) -> dict[str, Work]:
    """One append, and the same columns by one INSERT into a table with the same indexes, prepared."""
    leaf = await connection.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await connection.execute(f"CREATE TABLE penstock.bare (LIKE penstock.{leaf} INCLUDING ALL)")
    insert = await connection.prepare(_INSERT)

    def made() -> Event:
        return Event(event_type="order.placed", entity_id=f"order-{uuid.uuid4()}", payload={"amount": 1})

    async def bare() -> None:
        one = made()
        await insert.fetch(
            one.event_id, one.event_type, one.occurred_at, one.actor_type, one.actor_id, one.entity_id,
            one.tenant_id, one.correlation_id, one.causation_id, one.schema_version, one.idempotency_key,
            one.content_hash, one.payload_json.decode(), "{}",
        )  # fmt: skip

    return {"append": lambda: store.append(made()), "bare_insert": bare}


async def _measure(work: Mapping[str, Work], times: int) -> dict[str, float]:
    """Interleaved, so that what the machine does meanwhile is in all of them."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(times + 3):
        for name, step in work.items():
            started = time.perf_counter()
            await step()
            if turn >= 3:  # before that plans and caches are made
                taken[name].append((time.perf_counter() - started) * 1_000)
    figures = {}
    for name, each in taken.items():
        cuts = statistics.quantiles(each, n=100)
        figures |= {f"{name}.p{rank}": round(cuts[rank - 1], 2) for rank in (50, 95, 99)}
    if "append" in work:
        figures["append_to_insert"] = round(figures["append.p50"] / figures["bare_insert.p50"], 2)
    return figures


def main(
    url: Annotated[str, typer.Argument(help="The owner's, of a new and empty store.")] = "",
    events: Annotated[int, typer.Option(min=1_000)] = 1_000_000,
    partitions: Annotated[int, typer.Option(min=2, max=2_000)] = 24,
    times: Annotated[int, typer.Option(min=10, help="Repetitions of each query.")] = 100,
    many: Annotated[
        bool,
        typer.Option(
            "--many",
            help="Medians with --partitions ÷ with 4, of equal events, in stores that are made and dropped.",
        ),
    ] = False,
) -> None:
    """Print one JSON object."""
    if many == bool(url):
        raise typer.BadParameter("give the URL of a store to fill, or --many, which makes its own")
    if many:
        from benchmarks.servers import servers

        found = many_partitions(servers(), events=events, counts=(4, partitions), times=times)
    else:
        found = asyncio.run(_filled(url, events, partitions, times))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
