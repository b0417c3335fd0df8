"""What the books refuse is nobody's record and no passing trouble: the worker stops instead of trying for
ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from penstock_store.errors import SinkBroken

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]


async def test_a_batch_that_the_books_refuse_is_broken(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref()])
    await admin.execute("ALTER TABLE penstock.ingested ADD CONSTRAINT none_stored CHECK (stored = 0)")
    with pytest.raises(SinkBroken, match="none_stored"):
        await sink.write(batch(claims[ref()], [event()]), reject=refuse)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 0


async def test_a_foreign_unique_index_is_everyones_fault(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref()])
    await sink.write(batch(claims[ref()], [event()]), reject=refuse)
    leaf = await admin.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await admin.execute(f"CREATE UNIQUE INDEX one_per_entity ON penstock.{leaf} (entity_id)")
    again = await sink.claim([ref()])
    with pytest.raises(SinkBroken, match="one_per_entity"):
        await sink.write(batch(again[ref()], [event()]), reject=refuse)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 1
