"""Which partitions a filter on payloads is looked for in: fingerprints of the values at their top."""

from __future__ import annotations

import json
from typing import Any

from fixtures.databases import Database
from fixtures.history import History
from penstock_schemas import Event
from penstock_store.contract import QueryOptions
from penstock_store.postgresql._catalogue import catalogue
from penstock_store.postgresql.reader import PostgresEventStore

_VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    1.5,
    -2,
    2**70,
    1e300,
    1e-7,
    "",
    "1",
    "päid",
    '"\\\n',
    [1],
    {"a": {"b": 1}},
]


async def _seal(history: History, payloads: list[dict[str, Any]]) -> None:
    await history.append([Event(event_type="t", entity_id="e", payload=payload) for payload in payloads])
    await history.roll()


async def _looked_into(history: History, payload: dict[str, Any]) -> int:
    """How many sealed partitions a page of that filter may read."""
    text, values = catalogue(QueryOptions(payload=payload))
    return sum(not row["is_current"] for row in await history.connection.fetch(text, *values))


async def test_a_value_is_looked_for_where_it_can_be(database: Database, history: History) -> None:
    for value in _VALUES:
        await _seal(history, [{"ü key": value, "other": 7}, {}])
    async with PostgresEventStore(database.reader_url) as store:
        for number, value in enumerate(_VALUES):
            printed = not isinstance(value, dict | list)
            filters = {"ü key": value}
            assert await _looked_into(history, filters) == (1 if printed else len(_VALUES)), value
            page = await store.get_events(QueryOptions(payload=filters))
            assert [event.event_id for event in page.events] == [history.events[2 * number].event_id]
        assert await _looked_into(history, {"other": 7}) == len(_VALUES)
        assert await _looked_into(history, {"other": 8}) == 0
        assert await _looked_into(history, {"ü key": 1, "other": 8}) == 0


async def test_numbers_are_equal_however_they_are_written(history: History) -> None:
    """As jsonb's @> says."""
    await _seal(history, [{"amount": 1}])
    await _seal(history, [{"amount": 10}])
    for written in ("1.00", "1e0", "10e-1"):
        text, values = catalogue(QueryOptions(payload={"amount": 1}))
        values = [
            json.dumps(["amount", 1]).replace("1", written) if v == '["amount", 1]' else v for v in values
        ]
        assert written in str(values)
        rows = await history.connection.fetch(text, *values)
        assert sum(not row["is_current"] for row in rows) == 1


async def test_a_partition_without_prints_is_looked_into(database: Database, history: History) -> None:
    """Payloads of more values than prints are taken of, and prints of a server that hashes otherwise."""
    await _seal(history, [{"state": "there"} | {f"k{number}": number for number in range(17)}])
    await _seal(history, [{"state": "there"}])
    await _seal(history, [{"state": "elsewhere"}])
    probes = await history.connection.fetch(
        "SELECT payload_probe FROM penstock.partitions WHERE state = 'closed' ORDER BY lower"
    )
    assert [probe is None for (probe,) in probes] == [True, False, False]
    assert await _looked_into(history, {"state": "there"}) == 2
    await history.connection.execute(
        "UPDATE penstock.partitions SET payload_probe = 1 WHERE state = 'closed'"
    )
    await history.connection.execute("DELETE FROM penstock.prints WHERE kind = 'payload'")
    assert await _looked_into(history, {"state": "there"}) == 3
    async with PostgresEventStore(database.reader_url) as store:
        page = await store.get_events(QueryOptions(payload={"state": "there"}))
    assert list(page.events) == history.events[:2]


async def test_no_prints_are_taken_of_payloads_that_no_index_knows(history: History) -> None:
    await history.connection.execute("UPDATE penstock.settings SET leaf_indexes = '{lean}'")
    for _ in range(2):  # the next partition has its indexes already
        await history.roll()
    await _seal(history, [{"state": "there"}])
    assert not await history.connection.fetchval(
        "SELECT count(*) FROM penstock.prints WHERE kind = 'payload'"
    )
