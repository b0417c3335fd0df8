"""Rows that PostgreSQL refuses one after the other are not at fault: somebody added a constraint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse
from penstock_store.errors import SinkBroken
from penstock_store.ingest import Outcome

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]


async def test_a_constraint_that_refuses_everything_dead_letters_nothing(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref()])
    await sink.write(batch(claims[ref()], [event()]), reject=refuse)
    await admin.execute(
        "ALTER TABLE penstock.events ADD CONSTRAINT nobody CHECK (schema_version > 1) NOT VALID"
    )
    claims = await sink.claim([ref()])
    with pytest.raises(SinkBroken, match="nobody"):
        await sink.write(batch(claims[ref()], [event() for _ in range(2000)]), reject=refuse)
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 1
    assert await admin.fetchval("SELECT next_offset FROM penstock.offsets") == 1


async def test_many_refused_rows_among_more_good_ones_go_alone(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref()])
    bad, rejections = b'{"amount": 1e999999}', Rejections()
    events = [event(payload=bad) if n % 3 == 2 else event() for n in range(1800)]
    result = await sink.write(batch(claims[ref()], events), reject=rejections)
    assert result.total(Outcome.DEAD_LETTERED) == len(rejections.seen) == 600
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 1200
