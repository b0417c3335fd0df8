"""`get_events` and `stream` against a plain Python model: equal answers to any query."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.databases import Database
from fixtures.history import History, random_event, random_json
from fixtures.query_model import selected
from penstock_schemas import RecordedEvent
from penstock_store.contract import DEFAULT_PAGE, OrderBy, QueryOptions
from penstock_store.postgresql import _catalogue, _rare
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

_EVENTS = 300
_EXAMPLES = 150
_FIRST_HOUR = datetime(2026, 1, 1, tzinfo=UTC)


class Subject:
    """A filled store, its reader, and the loop that both live in."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        self._runner = runner
        self.events = runner.run(_fill(database))
        settings = ReaderSettings(dsn=database.reader_url, stream_chunk=7)
        self.store = PostgresEventStore(settings)

    def page(self, options: QueryOptions) -> Any:
        return self._runner.run(self.store.get_events(options))

    def stream(self, options: QueryOptions) -> list[RecordedEvent]:
        async def collect() -> list[RecordedEvent]:
            return [event async for event in self.store.stream(options)]

        return self._runner.run(collect())


async def _fill(database: Database) -> list[RecordedEvent]:
    """Six partitions: sealed ones, one that is closed and not sealed, the current one; one is empty."""
    connection = await asyncpg.connect(database.url, timeout=10)
    history, rng = History(connection), random.Random(7)
    await history.start()
    for part in range(6):
        if part != 2:
            await history.append([random_event(rng) for _ in range(_EVENTS // 10)])
            await history.append([random_event(rng) for _ in range(_EVENTS // 10)], commit=part != 3)
        if part < 5:
            await history.roll(seal=part != 4)
    await connection.close(timeout=5)
    return history.events


@pytest.fixture(params=[(64, 8), (2, 8), (2, 1)], ids=["whole", "in-parts", "by-kept-plans"])
def subject(
    database: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Subject]:
    """With the catalogue asked for in one part, or first for its beginning alone; with values looked for by
    the plans that a session keeps, as in many partitions.
    """
    part, few = request.param
    monkeypatch.setattr(_catalogue, "_PART", part)
    monkeypatch.setattr(_catalogue, "_PRINTED_PART", part)
    monkeypatch.setattr(_rare, "_FEW", few)
    with asyncio.Runner() as runner:
        made = Subject(runner, database)
        yield made
        runner.run(made.store.close())


def _options(events: list[RecordedEvent]) -> st.SearchStrategy[QueryOptions]:
    """Filters that some events pass, often several at once."""
    maybe = {
        "since": st.integers(0, 12).map(lambda hour: _FIRST_HOUR + timedelta(hours=hour)),
        "until": st.integers(0, 12).map(lambda hour: _FIRST_HOUR + timedelta(hours=hour)),
        "recorded_since": st.sampled_from(events).map(lambda event: event.recorded_at),
        "recorded_until": st.sampled_from(events).map(lambda event: event.recorded_at),
        "after_sequence": st.integers(-5, _EVENTS + 50),
        "up_to_sequence": st.integers(-5, _EVENTS + 50),
        "event_types": st.lists(st.sampled_from(["order.placed", "order.paid", "It's", "none"]), max_size=3),
        "actor_id": st.sampled_from(["ann", "bob", "çelik", "nobody"]),
        "correlation_id": st.sampled_from(["c0", "c3", "c9"]),
        "entity_id": st.sampled_from(["e0", "e1", "e9"]),
        "tenant_id": st.sampled_from(["default", "other"]),
        "tags": st.lists(st.sampled_from(["red", "green", 'a "quoted" one', "grün"]), max_size=2),
        "payload": st.integers().map(lambda seed: random_json(random.Random(seed))),
        "limit": st.integers(1, 40),
    }
    always = {"order_by": st.sampled_from(OrderBy), "descending": st.booleans()}
    return st.fixed_dictionaries(always, optional=maybe).map(lambda given: QueryOptions(**given))


def test_a_page_is_what_the_model_says(subject: Subject) -> None:
    @settings(max_examples=_EXAMPLES, deadline=None)
    @given(_options(subject.events), st.one_of(st.just(0), st.integers(0, 60)))
    def check(options: QueryOptions, offset: int) -> None:
        wanted = selected(subject.events, options)[offset:]
        page = subject.page(options.replace(offset=offset))
        limit = options.limit or DEFAULT_PAGE
        assert list(page.events) == wanted[:limit]
        assert page.has_more == (len(wanted) > limit)

    check()


def test_pages_by_cursor_make_up_the_whole(subject: Subject) -> None:
    @settings(max_examples=_EXAMPLES // 3, deadline=None)
    @given(_options(subject.events))
    def check(options: QueryOptions) -> None:
        seen: list[RecordedEvent] = []
        page = subject.page(options)
        while page.events:
            assert len(seen) <= len(subject.events), "pages do not get on"
            seen += page.events
            page = subject.page(options.replace(cursor=page.next_cursor))
        assert seen == selected(subject.events, options)
        assert not page.has_more

    check()


def test_a_stream_is_what_the_model_says(subject: Subject) -> None:
    @settings(max_examples=_EXAMPLES, deadline=None)
    @given(_options(subject.events), st.booleans())
    def check(options: QueryOptions, limited: bool) -> None:
        wanted = selected(subject.events, options)
        if not limited:
            options = options.replace(limit=None)
        assert subject.stream(options) == wanted[: options.limit]

    check()


def test_one_event_and_one_correlation(subject: Subject) -> None:
    async def read() -> None:
        for event in subject.events[::17]:
            assert await subject.store.get_event(event.event_id) == event
        for correlation in ("c0", "c5", "none"):
            options = QueryOptions(correlation_id=correlation, order_by=OrderBy.TIME)
            assert await subject.store.get_events_by_correlation(correlation) == selected(
                subject.events, options
            )

    subject._runner.run(read())


def test_an_event_read_equals_one_validated(subject: Subject) -> None:
    for event in subject.page(QueryOptions(limit=50)).events:
        assert event == RecordedEvent(**dict(event))
        assert event.model_dump_json() == RecordedEvent(**dict(event)).model_dump_json()
        assert event.model_copy(update={"entity_id": "x"}).entity_id == "x"
        assert event.typed_payload is None
