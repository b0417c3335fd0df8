"""Invariant 2 beyond the current partition: the prints of sealed partitions hide no key that is stored."""

from __future__ import annotations

from array import array
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fixtures.databases import Database
from fixtures.history import History
from fixtures.ingesting import SinkFactory, batch, ref, refuse
from penstock_schemas import Event
from penstock_schemas.fields import EventFields
from penstock_store import partitions
from penstock_store.ingest import Outcome
from penstock_store.ingest._key_filter import Key, mark, suspects
from penstock_store.postgresql.store import PostgresStore

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_KEYS = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=40)), unique=True, max_size=60)
# Small, so that keys meet again; on both sides of each other, so that key bounds alone prune little.
_NAMES = st.sampled_from(["0", "a", "m", "zz", "ß", "鍵", "k\n", "d6e", "𝄞"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(_NAMES, min_size=1, max_size=4)),
        st.tuples(st.just("append"), st.lists(_NAMES, min_size=1, max_size=3)),
        st.tuples(st.sampled_from(["roll", "seal", "damage"]), st.just([])),
    ),
    min_size=4,
    max_size=14,
)


def _print(key: Key) -> bytes:
    return sha256("\n".join(key).encode()).digest()[3:7]


@given(stored=_KEYS, asked=_KEYS, power=st.integers(0, 12))
def test_a_stored_key_is_always_suspected(stored: list[Key], asked: list[Key], power: int) -> None:
    bits = bytearray(2**power)
    mark(bits, array("I", b"".join(map(_print, stored))))
    found = suspects(bits, [*asked, *stored])
    assert [key for key in found if key in set(stored)] == [
        key for key in [*asked, *stored] if key in set(stored)
    ]


def test_few_keys_are_suspected_for_nothing() -> None:
    stored, asked = ([("t", f"{side}-{n}") for n in range(10_000)] for side in ("stored", "asked"))
    bits = bytearray(2**15)  # 26 bits a key
    mark(bits, array("I", b"".join(map(_print, stored))))
    assert len(suspects(bits, asked)) < 150  # 60 or so, and always the same ones


@example(
    steps=[
        ("write", ["ß"]), ("roll", []), ("append", ["鍵"]), ("roll", []), ("seal", []),
        ("write", ["ß", "a", "鍵"]), ("append", ["ß", "鍵", "0"]),
        ("roll", []), ("seal", []), ("damage", []), ("append", ["a", "0"]), ("write", ["a", "0"]),
    ]
)  # fmt: skip
@given(steps=_STEPS)
@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_key_is_stored_twice_whatever_was_closed(
    steps: list[tuple[str, list[str]]], make_sink: SinkFactory, database: Database, admin: Connection
) -> None:
    """Held against a set; partitions are closed with prints and without, and some prints get lost."""
    history, tenant, stored, offset = History(admin), uuid4().hex, set[str](), 0
    sink = await make_sink(group_id=tenant, dedupe_window=timedelta(days=9_999))
    await admin.execute("UPDATE penstock.settings SET leaf_indexes = '{lean}'")
    await partitions.make_current(admin)
    claim = (await sink.claim([ref()]))[ref()]
    async with PostgresStore(database.writer_url) as store:
        for step, names in steps:
            events = [
                Event(event_type="t", entity_id="e", tenant_id=tenant, idempotency_key=name) for name in names
            ]
            if step == "write":
                written = await sink.write(
                    batch(claim, list(map(EventFields.of, events)), first=offset, expected=offset or None),
                    reject=refuse,
                )
                offset += len(names)
                assert written.total(Outcome.STORED) == len(set(names) - stored)
            elif step == "append":
                results = await store.append_batch(events)
                assert sum(one.stored for one in results) == len(set(names) - stored)
            elif step == "roll":
                await history.roll(seal=False)
            elif step == "seal":
                for closed in await admin.fetch(
                    "SELECT name FROM penstock.partitions WHERE state = 'closed'"
                ):
                    await partitions.close(admin, closed["name"])
            else:
                await admin.execute("DELETE FROM penstock.key_prints WHERE block % 2 = 0")
            stored.update(names)
    kept = await admin.fetch("SELECT idempotency_key FROM penstock.events WHERE tenant_id = $1", tenant)
    assert sorted(row[0] for row in kept) == sorted(stored)
