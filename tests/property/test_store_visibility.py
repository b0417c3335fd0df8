"""Invariant 4: a reader that asks for "after N" sees every event, whatever commits, fails or lingers."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fixtures.databases import Database
from fixtures.ingesting import Rejections, SinkFactory, batch, event, ref, refuse
from penstock_store import partitions

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_WRITERS = 100
_ROUNDS = 6
_BEGIN = (
    "SELECT leaf, recorded_at, first_sequence FROM penstock.begin_write("
    "'g', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', $1, '1 day', NULL, NULL)"
)
_INSERT = """
INSERT INTO penstock."{leaf}"
SELECT $1::bigint + n, $2, gen_random_uuid(), 't', now(), NULL, NULL, 'e', 'd', 'c', NULL, 1,
    gen_random_uuid()::text, '', '{{}}', '{{}}' FROM generate_series(0, $3::int - 1) AS n
"""


@pytest.fixture
async def ready(database: Database, admin: Connection) -> Database:
    await admin.execute("UPDATE penstock.settings SET leaf_indexes = '{lean}'")
    await partitions.make_current(admin)
    return database


async def _write(connection: Connection, chance: random.Random, committed: set[int]) -> None:
    """Transactions that overlap others at every await; a third of them come to nothing."""
    for _ in range(_ROUNDS):
        size, fails = chance.randint(1, 5), chance.random() < 0.34
        transaction = connection.transaction()
        await transaction.start()
        row = await connection.fetchrow(_BEGIN, size)
        assert row is not None
        for _ in range(chance.randint(0, 3)):
            await connection.fetchval("SELECT 1")
        await connection.execute(
            _INSERT.format(leaf=row["leaf"]), row["first_sequence"], row["recorded_at"], size
        )
        if fails:
            await transaction.rollback()
        else:
            await transaction.commit()
            committed.update(range(row["first_sequence"], row["first_sequence"] + size))


async def _follow(reader: Connection, seen: list[int], writing: asyncio.Event) -> None:
    """What a live reader does: the mark first, in a statement of its own; then everything up to it."""
    cursor, last = 0, False
    while True:
        last = not writing.is_set()
        mark = await reader.fetchval("SELECT penstock.safe_sequence()")
        rows = await reader.fetch(
            "SELECT sequence FROM penstock.events WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence",
            cursor,
            mark,
        )
        seen.extend(row[0] for row in rows)
        cursor = mark
        if last:
            return


async def test_a_reader_never_skips_among_a_hundred_writers(ready: Database) -> None:
    committed: set[int] = set()
    seen: list[int] = []
    writing = asyncio.Event()
    writing.set()
    connections = await _connect(ready.writer_url, _WRITERS)
    unrelated, reader = await asyncpg.connect(ready.admin_url), await asyncpg.connect(ready.reader_url)
    try:
        # an open transaction with an xid and a snapshot, older than all: it must stall nobody
        async with unrelated.transaction(isolation="repeatable_read"):
            await unrelated.execute("CREATE TEMP TABLE unrelated (id int)")
            following = asyncio.create_task(_follow(reader, seen, writing))
            await asyncio.gather(
                *(_write(link, random.Random(number), committed) for number, link in enumerate(connections))
            )
            writing.clear()
            await asyncio.wait_for(following, 30)
    finally:
        await asyncio.gather(*(link.close() for link in (*connections, unrelated, reader)))
    assert seen == sorted(committed)


async def _connect(url: str, count: int) -> list[Connection]:
    made: list[Connection] = []
    for _ in range(0, count, 10):
        made.extend(await asyncio.gather(*(asyncpg.connect(url, timeout=30) for _ in range(10))))
    return made


async def test_the_mark_waits_for_the_slowest_writer_and_not_for_a_dead_one(
    ready: Database, admin: Connection
) -> None:
    slow, fast = await asyncpg.connect(ready.writer_url), await asyncpg.connect(ready.writer_url)
    try:
        first = slow.transaction()
        await first.start()
        await slow.fetchrow(_BEGIN, 2)
        async with fast.transaction():
            await fast.fetchrow(_BEGIN, 2)
        assert await admin.fetchval("SELECT penstock.safe_sequence()") == 0
        assert await admin.fetchval("SELECT last_value FROM penstock.event_sequence") == 4
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", slow.get_server_pid())
        assert await admin.fetchval("SELECT penstock.safe_sequence()") == 4
    finally:
        slow.terminate()
        await fast.close()


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.sampled_from(["begin", "commit", "rollback", "read"]), min_size=4, max_size=25), st.randoms()
)
def test_any_interleaving_is_read_whole(ready: Database, steps: list[str], chance: random.Random) -> None:
    """Each example is one schedule of overlapping writers, run statement by statement."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await _schedule(ready, steps, chance)

    asyncio.run(bounded())


async def _schedule(database: Database, steps: list[str], chance: random.Random) -> None:
    links = await asyncio.gather(*(asyncpg.connect(database.writer_url) for _ in range(4)))
    reader = await asyncpg.connect(database.reader_url)
    idle, busy = list(links), []
    committed: list[int] = []
    seen: list[int] = []
    cursor = start = await reader.fetchval("SELECT penstock.safe_sequence()")
    try:
        for step in [*steps, *["commit"] * 4, "read"]:
            if step == "begin" and idle:
                link = idle.pop()
                transaction = link.transaction()
                await transaction.start()
                row = await link.fetchrow(_BEGIN, 2)
                await link.execute(
                    _INSERT.format(leaf=row["leaf"]), row["first_sequence"], row["recorded_at"], 2
                )
                busy.append((link, transaction, row["first_sequence"]))
            elif step in ("commit", "rollback") and busy:
                link, transaction, first = busy.pop(chance.randrange(len(busy)))
                await getattr(transaction, step)()
                idle.append(link)
                committed += [first, first + 1] if step == "commit" else []
            elif step == "read":
                mark = await reader.fetchval("SELECT penstock.safe_sequence()")
                rows = await reader.fetch(
                    "SELECT sequence FROM penstock.events WHERE sequence > $1 AND sequence <= $2 ORDER BY 1",
                    cursor,
                    mark,
                )
                seen += [row[0] for row in rows]
                cursor = mark
    finally:
        for link in (*links, reader):
            link.terminate()
    assert seen == sorted(committed)
    assert cursor >= start


async def test_a_commit_is_published_and_announced_once(make_sink: SinkFactory, admin: Connection) -> None:
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]
    heard: asyncio.Queue[str] = asyncio.Queue()
    await admin.add_listener("penstock_events", lambda *args: heard.put_nowait(str(args[-1])))
    await sink.write(batch(claim, [event(), event()]), reject=refuse)
    assert await asyncio.wait_for(heard.get(), 10) == "2"
    assert await admin.fetchval("SELECT sequence FROM penstock.high_water") == 2
    assert await admin.fetchval("SELECT penstock.publish()") == 2
    await admin.execute("SELECT pg_notify('penstock_events', 'end')")
    assert await asyncio.wait_for(heard.get(), 10) == "end"


async def test_a_mark_does_not_wait_for_the_disk(admin: Connection) -> None:
    """COMMIT goes by the setting of its own moment: one that a function took back on its way out is none."""
    await admin.execute("SELECT penstock.reserve_sequences(3)")
    for setting in ("off", "on"):  # a mark that does not move writes nothing
        async with admin.transaction():
            assert await admin.fetchval("SELECT penstock.publish()") == 3
            assert await admin.fetchval("SHOW synchronous_commit") == setting
    assert await admin.fetchval("SHOW synchronous_commit") == "on"


async def test_the_published_mark_moves_after_a_rollback_too(
    make_sink: SinkFactory,
    admin: Connection,
    wait_for_async,  # type: ignore[no-untyped-def]
) -> None:
    """Else the readers of a replica would wait for numbers that nobody will ever use."""
    sink = await make_sink()
    claim = (await sink.claim([ref()]))[ref()]

    async def fail(_: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await sink.write(batch(claim, [event("a", "1"), event("a", "2")]), reject=fail)
    await wait_for_async(
        lambda: admin.fetchval("SELECT sequence = 2 FROM penstock.high_water"), 10, "the mark"
    )
    await sink.write(batch(claim, [event("a", "1"), event("a", "2")]), reject=Rejections())
