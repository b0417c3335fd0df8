"""Rows that PostgreSQL refuses one after the other are not at fault: somebody added a constraint."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse
from penstock_store.errors import SinkBroken
from penstock_store.ingest import Outcome

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]

_BAD = b'{"amount": 1e999999}'


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


@pytest.mark.parametrize("bad", [range(2, 1800, 3), range(600)], ids=["spread", "at the head"])
async def test_many_refused_rows_among_more_good_ones_go_alone(
    make_sink: SinkFactory, admin: Admin, bad: range
) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref()])
    rejections = Rejections()
    events = [event(payload=_BAD) if n in bad else event() for n in range(1800)]
    result = await sink.write(batch(claims[ref()], events), reject=rejections)
    assert result.total(Outcome.DEAD_LETTERED) == len(rejections.seen) == 600
    assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 1200


async def test_a_refused_row_is_found_behind_one_whose_id_is_taken(make_sink: SinkFactory) -> None:
    """PostgreSQL looks into its indexes a thousand rows at a time: the whole batch fails by the bad row, the
    half that begins elsewhere by the taken id.
    """
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    taken = event()
    await sink.write(batch(claim, [taken]), reject=refuse)
    events = [event() for _ in range(3000)]
    events[2100] = event("another key", event_id=UUID(bytes=taken.event_id))
    events[2700] = event(payload=_BAD)
    rejections = Rejections()
    result = await sink.write(batch(claim, events, first=1, expected=1), reject=rejections)
    assert [one.offset for one in rejections.seen] == [2101, 2701]
    assert result.total(Outcome.STORED) == 2998
