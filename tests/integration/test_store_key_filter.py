"""The prints of closed partitions spare writers a look into each, and are trusted where they are whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from fixtures.databases import Database
from fixtures.history import History
from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from penstock_schemas import Event
from penstock_schemas.fields import EventFields
from penstock_store import partitions
from penstock_store.appending import Key
from penstock_store.ingest import Outcome
from penstock_store.ingest._key_filter import KeyFilter, mark, suspects
from penstock_store.postgresql.store import PostgresStore

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]

_CLOSED = 5
_EVER = timedelta(days=999)


def _event(number: int) -> EventFields:
    return event(md5(b"%d" % number, usedforsecurity=False).hexdigest())


async def _fill(
    sink: Any, admin: Admin, *, rows: int = 300, seal: bool = True, first: int = 0, closed: int = _CLOSED
) -> int:
    """Closed partitions of keys of chance, the same ones in every run; the offset after them."""
    history, offset = History(admin), first
    await admin.execute("UPDATE penstock.settings SET leaf_indexes = '{lean}'")
    await partitions.make_current(admin)
    claim = (await sink.claim([ref()]))[ref()]
    for _ in range(closed):
        sent = batch(claim, [_event(offset + n) for n in range(rows)], first=offset, expected=offset or None)
        await sink.write(sent, reject=refuse)
        offset += rows
        await history.roll(seal=seal)
    return offset


def _asked(sink: Any) -> list[str]:
    """Which tables the sink asks from now on."""
    asked: list[str] = []

    def note(record: Any) -> None:
        asked.extend(re.findall(r'FROM penstock\."?(\w+)', record.query))

    sink._writer.connection.add_query_logger(note)
    return asked


async def test_a_worker_loads_the_prints_once_and_looks_into_no_closed_partition(
    make_sink: SinkFactory, admin: Admin
) -> None:
    offset = await _fill(await make_sink(dedupe_window=_EVER), admin)
    sink = await make_sink(dedupe_window=_EVER)
    claim = (await sink.claim([ref()]))[ref()]
    asked = _asked(sink)
    for expected in (["partitions", *["key_prints"] * _CLOSED], [], []):
        del asked[:]
        sent = batch(claim, [_event(offset + n) for n in range(100)], first=offset, expected=offset)
        assert (await sink.write(sent, reject=refuse)).total(Outcome.STORED) == 100
        offset += 100
        assert [name for name in asked if name not in ("begin_write", "finish_write")] == expected


async def test_a_partition_is_loaded_when_it_has_been_looked_into_often_enough(
    make_sink: SinkFactory, admin: Admin
) -> None:
    offset = await _fill(await make_sink(dedupe_window=_EVER), admin, rows=3_000)
    sink = await make_sink(dedupe_window=_EVER)
    claim = (await sink.claim([ref()]))[ref()]
    asked = _asked(sink)
    for _ in range(4):
        await sink.write(batch(claim, [_event(offset)], first=offset, expected=offset), reject=refuse)
        offset += 1
    looks = [name for name in asked if name.startswith("events_")]
    assert len(looks) == 2 * _CLOSED
    assert asked.index("key_prints") > asked.index(looks[-1])


async def test_a_repeated_key_is_found_in_the_partitions_that_can_hold_it(
    make_sink: SinkFactory, admin: Admin
) -> None:
    offset = await _fill(await make_sink(dedupe_window=_EVER), admin)
    sink = await make_sink(dedupe_window=_EVER)
    claim = (await sink.claim([ref()]))[ref()]
    keys = await admin.fetch("SELECT idempotency_key FROM penstock.events ORDER BY random() LIMIT 50")
    sent = [*(event(row[0]) for row in keys), *(_event(offset + n) for n in range(50))]
    written = await sink.write(batch(claim, sent, first=offset, expected=offset), reject=refuse)
    assert (written.total(Outcome.DUPLICATE), written.total(Outcome.STORED)) == (50, 50)


async def test_prints_that_are_not_whole_are_not_trusted(make_sink: SinkFactory, admin: Admin) -> None:
    offset = await _fill(await make_sink(dedupe_window=_EVER), admin)
    sink = await make_sink(dedupe_window=_EVER)
    lost = await admin.fetchval("SELECT name FROM penstock.partitions ORDER BY lower LIMIT 1")
    await admin.execute("DELETE FROM penstock.key_prints WHERE leaf = $1 AND block = 1", lost)
    claim = (await sink.claim([ref()]))[ref()]
    keys = await admin.fetch(f"SELECT idempotency_key FROM penstock.{lost}")
    asked = _asked(sink)
    again = batch(claim, [event(row[0]) for row in keys], first=offset, expected=offset)
    assert (await sink.write(again, reject=refuse)).total(Outcome.DUPLICATE) == len(keys)
    assert lost in asked


async def test_a_new_connection_trusts_nothing_that_the_old_one_loaded(
    make_sink: SinkFactory, admin: Admin
) -> None:
    offset = await _fill(await make_sink(dedupe_window=_EVER), admin)
    sink = await make_sink(dedupe_window=_EVER)
    claim = (await sink.claim([ref()]))[ref()]
    await sink.write(batch(claim, [_event(offset)], first=offset, expected=offset), reject=refuse)
    assert sink._key_filter._loaded
    sink._writer.terminate()
    await sink.open()
    assert not sink._key_filter._loaded


_APPEND = """
SELECT * FROM penstock.append_events(ARRAY[gen_random_uuid()], '{t}', ARRAY[now()], '{u}', '{u}', ARRAY[$1],
    '{default}', '{c}', '{NULL}', '{1}', ARRAY[$2], ARRAY['x'::bytea], '{"{}"}', '{"{}"}', $3)
"""
_SCANS = """
SELECT p.name, s.seq_scan + coalesce(s.idx_scan, 0) FROM penstock.partitions p
JOIN pg_stat_xact_user_tables s ON s.relname = p.name WHERE p.state = 'closed'
"""


async def _looks(database: Database, entity: str, key: str, expected: int | None = None) -> Sequence[str]:
    """Closed partitions that one append looks into, by PostgreSQL's own count."""
    connection = await asyncpg.connect(database.admin_url, timeout=10)
    try:
        async with connection.transaction():
            await connection.fetch(_APPEND, entity, key, expected)
            return [name for name, scans in await connection.fetch(_SCANS) if scans]
    finally:
        await connection.close(timeout=5)


@pytest.mark.parametrize("expected", [None, 0], ids=["without", "with a version"])
async def test_an_append_looks_only_where_its_key_can_be(
    make_sink: SinkFactory, database: Database, admin: Admin, expected: int | None
) -> None:
    await _fill(await make_sink(dedupe_window=_EVER), admin)
    assert await _looks(database, "new", "5-new", expected) == []
    leaf, key = await admin.fetchrow(
        "SELECT tableoid::regclass::text, idempotency_key FROM penstock.events ORDER BY random() LIMIT 1"
    )
    assert await _looks(database, "new", key, expected) == [leaf.removeprefix("penstock.")]


async def test_an_append_looks_into_partitions_that_have_no_prints(
    make_sink: SinkFactory, database: Database, admin: Admin
) -> None:
    await _fill(await make_sink(dedupe_window=_EVER), admin, seal=False)
    assert len(await _looks(database, "new", "5-new")) == _CLOSED


async def test_the_versions_of_sealed_partitions_are_found(database: Database, admin: Admin) -> None:
    history = History(admin)
    async with PostgresStore(database.writer_url) as store:
        versions = {}
        for name in ("e1", "ß", "e3"):
            one = Event(event_type="t", entity_id=name)
            versions[name] = (await store.append(one)).sequence
            await history.roll()
        for name, version in versions.items():
            assert (
                await store.append(Event(event_type="t", entity_id=name), expected_version=version)
            ).stored


async def test_the_filter_keeps_to_the_window_and_to_its_bound(
    make_sink: SinkFactory, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_store.ingest._key_filter._FEWEST_BITS", 1024)
    monkeypatch.setattr("penstock_store.ingest._key_filter._MOST_BITS", 16_384)
    await _fill(await make_sink(dedupe_window=_EVER), admin)
    closed = "SELECT name FROM penstock.partitions WHERE state = 'closed' ORDER BY lower DESC"
    names = [row[0] for row in await admin.fetch(closed)]
    keys: list[Key] = [
        ("default", row[0]) for row in await admin.fetch("SELECT idempotency_key FROM penstock.events")
    ]
    kept = KeyFilter()
    loaded, found = await kept.narrow(admin, names, keys)
    assert loaded == set(names[:2])  # 600 of the 768 keys that three quarters of the room take
    assert len(kept._bits) == 2048
    stored = {
        ("default", row[0])
        for name in loaded
        for row in await admin.fetch(f"SELECT idempotency_key FROM penstock.{name}")
    }
    assert stored <= set(found)
    loaded, _ = await kept.narrow(admin, names[3:], keys)  # the others are out of the window
    assert loaded == set()  # they had been left out, and there is room only after the next start
    assert len(kept._bits) == 2048


async def test_a_partition_that_has_no_room_takes_none_from_the_others(
    make_sink: SinkFactory, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_store.ingest._key_filter._FEWEST_BITS", 1024)
    monkeypatch.setattr("penstock_store.ingest._key_filter._MOST_BITS", 16_384)  # room for 768 and a quarter
    sink = await make_sink(dedupe_window=_EVER)
    offset = await _fill(sink, admin, rows=100)
    await _fill(sink, admin, rows=900, first=offset, closed=1)
    closed = "SELECT name FROM penstock.partitions WHERE state = 'closed' ORDER BY lower DESC"
    names = [row[0] for row in await admin.fetch(closed)]
    loaded, _ = await KeyFilter().narrow(admin, names, [("default", str(n)) for n in range(100)])
    assert loaded == set(names[1:])


async def test_python_and_postgresql_print_keys_alike(make_sink: SinkFactory, admin: Admin) -> None:
    sink = await make_sink(dedupe_window=_EVER)
    history = History(admin)
    await admin.execute("UPDATE penstock.settings SET leaf_indexes = '{lean}'")
    await partitions.make_current(admin)
    claim = (await sink.claim([ref()]))[ref()]
    keys = [("Größe", "k1"), ("a\nb", "c"), ("a", "b\nc"), ("", ""), ("𝄞", "鍵")]
    await sink.write(
        batch(claim, [event(key or " ", tenant_id=tenant) for tenant, key in keys]), reject=refuse
    )
    await history.roll()
    prints = b"".join(row[0] for row in await admin.fetch("SELECT prints FROM penstock.key_prints"))
    assert len(prints) == 4 * len(keys)
    bits = bytearray(2**10)
    mark(bits, memoryview(prints).cast("I"))
    stored = [
        tuple(row) for row in await admin.fetch("SELECT tenant_id, idempotency_key FROM penstock.events")
    ]
    assert suspects(bits, stored) == stored
