"""A copy from a store that holds one event id under two keys, as PostgreSQL may in two partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History
from penstock_schemas import Event
from penstock_store.backends import create_event_store
from penstock_store.moving import copy_events
from penstock_store.store_contract import EventStore

_ID = uuid4()


def _event(key: str, **fields: object) -> Event:
    return Event(event_type="a", entity_id="e", idempotency_key=key, **fields)  # type: ignore[arg-type]


@pytest.fixture
async def source(database: Database) -> AsyncIterator[EventStore]:
    """`a` and `d` have one id."""
    connection = await asyncpg.connect(database.url, timeout=10)
    async with create_event_store("postgresql", dsn=database.writer_url) as store:
        await store.append_batch([_event("a", event_id=_ID), _event("b"), _event("c")])
        await History(connection).roll(seal=False)
        await store.append_batch([_event("d", event_id=_ID), _event("e")])
        yield store
    await connection.close(timeout=5)


@pytest.mark.parametrize("target", ["memory", "file"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
async def test_only_the_second_is_left_out_whatever_the_batch(
    source: EventStore, target: str, size: int, tmp_path: Path
) -> None:
    settings = {"directory": tmp_path} if target == "file" else {}
    async with create_event_store(target, **settings) as kept:
        report = await copy_events(source, kept, batch_size=size, skip_conflicts=True)
        assert (report.stored, report.conflicts) == (4, 1)
        assert [event.idempotency_key async for event in kept.stream()] == ["a", "b", "c", "e"]
