"""What one batch asks of PostgreSQL, counted: a guard against round trips that creep in."""

from __future__ import annotations

import re
from typing import Any

from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from penstock_store.ingest import Outcome

_BEGIN = ["BEGIN", "SELECT penstock.begin_write"]
_END = ["SELECT penstock.finish_write", "COMMIT"]


def _short(query: str) -> str:
    called = re.search(r"penstock\.(begin_write|finish_write)", query)
    return f"SELECT {called[0]}" if called else query.split()[0]


async def test_a_batch_is_five_statements_and_a_copy_whatever_its_size(make_sink: SinkFactory) -> None:
    sink = await make_sink()
    refs = [ref(0), ref(1)]
    claims = await sink.claim(refs)
    await sink.write(batch(claims[refs[1]], [event()]), reject=refuse)  # makes the first partition
    asked: list[str] = []

    def note(record: Any) -> None:
        asked.append(_short(record.query))

    sink._writer.connection.add_query_logger(note)
    for first, count in ((0, 1), (1, 5_000)):
        del asked[:]
        sent = batch(claims[refs[0]], [event() for _ in range(count)], first=first, expected=first or None)
        await sink.write(sent, reject=refuse)
        assert asked == [*_BEGIN, "SAVEPOINT", *_END]


async def test_duplicates_of_another_worker_cost_one_probe_once_they_are_expected(
    make_sink: SinkFactory,
) -> None:
    other = await make_sink()
    claims = await other.claim([ref()])
    events = [event() for _ in range(100)]
    await other.write(batch(claims[ref()], events), reject=refuse)
    sink = await make_sink()
    claims = await sink.claim([ref()])
    await sink.write(batch(claims[ref()], events[:50], first=100, expected=100), reject=refuse)
    asked: list[str] = []
    sink._writer.connection.add_query_logger(lambda record: asked.append(_short(record.query)))
    mixed = [*events[50:], *(event() for _ in range(50))]
    await sink.write(batch(claims[ref()], mixed, first=150, expected=150), reject=refuse)
    assert asked == [*_BEGIN, "SELECT", "SAVEPOINT", *_END]


async def test_duplicates_of_what_the_worker_itself_stored_of_late_cost_no_statement(
    make_sink: SinkFactory,
) -> None:
    sink = await make_sink()
    claims = await sink.claim([ref()])
    events = [event() for _ in range(100)]
    await sink.write(batch(claims[ref()], events), reject=refuse)
    asked: list[str] = []
    sink._writer.connection.add_query_logger(lambda record: asked.append(_short(record.query)))
    mixed = [*events[:50], *(event() for _ in range(50))]
    for first in (100, 201):
        del asked[:]
        sent = batch(claims[ref()], [*mixed, event()], first=first, expected=first)
        written = await sink.write(sent, reject=refuse)
        assert written.total(Outcome.DUPLICATE) == (50 if first == 100 else 100)
        assert asked == [*_BEGIN, "SAVEPOINT", *_END]
