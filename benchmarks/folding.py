"""Folding one entity with a snapshot beside folding all its events: `python -m benchmarks.folding`.

Fills a `file` store in a temporary folder and a `postgresql` store in a database of its own on the local
stack; both are removed.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import typer

from penstock import stack
from penstock_schemas import Event, RecordedEvent
from penstock_store import migrations
from penstock_store.backends import create_event_store
from penstock_store.store_contract import EventStore

_BATCH = 10_000
_TIMES = 25  # loads with a snapshot; the median counts


def _fold(state: dict[str, int], event: RecordedEvent) -> dict[str, int]:
    state["amount"] = state.get("amount", 0) + event.payload["amount"]
    state["events"] = state.get("events", 0) + 1
    return state


async def _append(store: EventStore, first: int, count: int) -> None:
    for start in range(first, first + count, _BATCH):
        size = min(_BATCH, first + count - start)
        await store.append_batch([
            Event(event_type="account.moved", entity_id="account-1", payload={"amount": n})
            for n in range(start, start + size)
        ])  # fmt: skip


async def _timed(store: EventStore, **options: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    loaded = await store.load("account-1", _fold, {}, **options)
    return time.perf_counter() - started, loaded


async def _measure(store: EventStore, events: int, behind: int) -> dict[str, Any]:
    await _append(store, 0, events - behind)
    _, first = await _timed(store, snapshot_every=1)
    assert first.snapshot_taken
    await _append(store, events - behind, behind)
    full, whole = await _timed(store, name="without a snapshot")
    short = [await _timed(store) for _ in range(_TIMES)]
    for _, loaded in short:
        assert loaded.state == whole.state
        assert loaded.version == whole.version
    median = statistics.median(taken for taken, _ in short)
    return {
        "events_read": {"full": whole.events_read, "snapshot": short[0][1].events_read},
        "full_s": round(full, 2),
        "snapshot_ms": round(1_000 * median, 2),
        "times_faster": round(full / median),
    }


@asynccontextmanager
async def _file() -> AsyncIterator[EventStore]:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as directory:
        async with create_event_store("file", directory=directory) as store:
            yield store


@asynccontextmanager
async def _postgresql() -> AsyncIterator[EventStore]:
    found = await asyncio.to_thread(stack.ensure, "bench", want=("postgresql",))
    assert found.admin_url
    assert found.database_url
    name = f"bench_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(_of(found.admin_url, "postgres"), timeout=10)
    await admin.execute(f"CREATE DATABASE {name} OWNER {urlsplit(found.database_url).username}")
    try:
        url = _of(found.database_url, name)
        await asyncio.to_thread(migrations.upgrade, url)
        async with create_event_store("postgresql", dsn=url) as store:
            yield store
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close(timeout=5)


def _of(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def _all(events: int, behind: int) -> dict[str, Any]:
    result: dict[str, Any] = {"events": events, "behind": behind}
    for name, opened in (("file", _file), ("postgresql", _postgresql)):
        print(f"filling and folding {name} …", file=sys.stderr)
        async with opened() as store:
            result[name] = await _measure(store, events, behind)
    return result


def main(
    events: Annotated[int, typer.Option(min=2_000, help="In the entity's history.")] = 1_000_000,
    behind: Annotated[int, typer.Option(min=0, help="Events after the snapshot.")] = 1_000,
) -> None:
    """Print one JSON object."""
    print(json.dumps(asyncio.run(_all(events, behind)), indent=2))


if __name__ == "__main__":
    typer.run(main)
