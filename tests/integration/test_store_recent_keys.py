"""What a session remembers of the keys it stored is never more than PostgreSQL would say."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from fixtures.history import History
from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse, set_clock
from penstock_store.errors import FenceLost
from penstock_store.ingest import Outcome, _recent_keys

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]


async def test_a_key_of_the_last_partition_may_come_again_once_the_window_has_passed(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink(dedupe_window=timedelta(0))
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    await History(admin).roll()
    await set_clock(admin, timedelta(days=1))
    again = await sink.write(batch(claim, [event("a")], first=1, expected=1), reject=refuse)
    assert again.total(Outcome.STORED) == 1


async def test_what_a_new_connection_may_find_otherwise_is_forgotten(
    make_sink: SinkFactory, admin: Admin
) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    await admin.execute("TRUNCATE penstock.events")  # as a restore to an earlier day does
    sink._writer.terminate()
    again = await sink.write(batch(claim, [event("a")], first=1, expected=1), reject=refuse)
    assert again.total(Outcome.STORED) == 1


async def test_what_went_back_below_a_session_is_stored_again(make_sink: SinkFactory, admin: Admin) -> None:
    """A position behind the batch's is the sign that commits were lost: what they stored may be, too."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [event("a")]), reject=refuse)
    await admin.execute(
        "TRUNCATE penstock.events, penstock.ingested; UPDATE penstock.offsets SET next_offset = NULL"
    )
    with pytest.raises(FenceLost):
        await sink.write(batch(claim, [event("b")], first=1, expected=1), reject=refuse)
    claim = (await sink.claim([ref()]))[ref()]
    again = await sink.write(batch(claim, [event("a"), event("b")]), reject=refuse)
    assert again.total(Outcome.STORED) == 2


async def test_a_batch_that_was_rolled_back_is_not_remembered(make_sink: SinkFactory) -> None:
    async def fail(_rejections: object) -> None:
        raise RuntimeError

    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    with pytest.raises(RuntimeError):
        await sink.write(batch(claim, [event("a", "1"), event("a", "2")]), reject=fail)
    again = await sink.write(batch(claim, [event("a", "2")]), reject=refuse)
    assert again.total(Outcome.STORED) == 1


async def test_a_conflict_does_not_take_the_place_of_the_first(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    rejected = Rejections()
    for first, content in enumerate(("1", "2", "2", "1")):
        sent = batch(claim, [event("a", content)], first=first, expected=first or None)
        await sink.write(sent, reject=rejected)
    assert [one.offset for one in rejected.seen] == [1, 2]


async def test_only_the_newest_keys_are_kept(make_sink: SinkFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recent_keys, "_KEPT", 10)
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    for number in range(25):
        await sink.write(
            batch(claim, [event(f"k{number}")], first=number, expected=number or None), reject=refuse
        )
    asked = batch(claim, [event(f"k{number}") for number in range(25)])
    kept = sink._recent.known(sink._recent._leaf, asked)
    assert {key for _, key in kept} == {f"k{number}" for number in range(10, 25)}
    again = batch(claim, [event(f"k{number}") for number in range(26)], first=25, expected=25)
    assert (await sink.write(again, reject=refuse)).total(Outcome.DUPLICATE) == 25


async def test_one_partition_does_not_drive_out_the_keys_of_another(
    make_sink: SinkFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client hands over a partition's records by tens of thousands before it comes to the next one."""
    monkeypatch.setattr(_recent_keys, "_KEPT", 10)
    sink = await make_sink()
    claims = await sink.claim([ref(0), ref(1)])
    await sink.write(batch(claims[ref(0)], [event("a")]), reject=refuse)
    for number in range(0, 60, 20):
        others = [event(f"k{number + each}") for each in range(20)]
        await sink.write(batch(claims[ref(1)], others, first=number, expected=number or None), reject=refuse)
    leaf = sink._recent._leaf
    assert set(sink._recent.known(leaf, batch(claims[ref(0)], [event("a")]))) == {("default", "a")}
    assert sum(map(len, sink._recent._newer.values())) + sum(map(len, sink._recent._older.values())) <= 20
