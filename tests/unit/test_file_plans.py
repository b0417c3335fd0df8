"""A stream reads chunk by chunk: what SQLite had to sort for each chunk would make it quadratic."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from penstock_store._cursor import Position
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.file import FileEventStore, FileSettings
from penstock_store.file._index import index_path
from penstock_store.file._reading import _select


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        QueryOptions(),
        QueryOptions(entity_id="e"),
        QueryOptions(entity_id="e", tenant_id="t"),
        QueryOptions(correlation_id="c"),
        QueryOptions(correlation_id="c", tenant_id="t"),
        QueryOptions(actor_id="a"),
        QueryOptions(event_types=["a"]),
        QueryOptions(tenant_id="t"),
    ],
    ids=lambda options: (
        "-".join(
            name
            for name in ("entity_id", "tenant_id", "correlation_id", "actor_id", "event_types")
            if getattr(options, name)
        )
        or "all"
    ),
)
async def test_a_chunk_by_sequence_sorts_nothing(
    tmp_path: Path, options: QueryOptions, descending: bool
) -> None:
    async with FileEventStore(FileSettings(directory=tmp_path)):
        pass
    after = Position(order_by=OrderBy.SEQUENCE, descending=descending, key=None, sequence=50)
    text, values = _select(options.replace(descending=descending), after, 100, 10)
    connection = sqlite3.connect(index_path(tmp_path))
    try:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    finally:
        connection.close()
    assert plan
    assert not [step for step in plan if "TEMP B-TREE" in step]
