"""A whole history in files and in PostgreSQL: the same events, equal answers to any question.

By default the sample that ships with Penstock; `make history FILE=events.jsonl.gz` takes a file of
CloudEvents, asks 1,000 questions, and prints what an event costs to move and to keep.
"""

from __future__ import annotations

import gzip
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

import pytest

from fixtures.databases import Database
from fixtures.random_queries import random_query
from penstock.demo.sample import sample_events
from penstock.loading.lines import LineReader
from penstock.loading.parse import event_of_line
from penstock_schemas import Event, RecordedEvent
from penstock_store.backends import create_event_store
from penstock_store.moving import compare_stores, copy_events
from penstock_store.store_contract import EventStore

_FILE = os.environ.get("HISTORY_FILE") or None
_QUERIES = int(os.environ.get("HISTORY_QUERIES", "1000" if _FILE else "100"))
_SEED = int(os.environ.get("HISTORY_SEED", "1"))
_EVERY = 97  # of the events, one is asked for by its id

pytestmark = pytest.mark.timeout(3_600 if _FILE else 120)


def _events() -> Iterator[Event]:
    """Each key once: the sample repeats some on purpose."""
    seen: set[str] = set()
    if _FILE is None:
        for event in sample_events():
            if event.idempotency_key not in seen:
                seen.add(event.idempotency_key)
                yield event
        return
    with Path(_FILE).open("rb") as raw:
        for line in LineReader(raw, _FILE):
            if line.data.strip():
                yield event_of_line(line.data)


async def _fill(store: EventStore) -> int:
    events = _events()
    count = 0
    while batch := list(islice(events, 997)):
        await store.append_batch(batch)
        count += len(batch)
    return count


@pytest.fixture
async def stores(tmp_path: Path, database: Database) -> AsyncIterator[tuple[EventStore, EventStore]]:
    """Files and PostgreSQL, both empty."""
    files = create_event_store("file", directory=tmp_path / "files", max_size=8 * 2**20)
    server = create_event_store("postgresql", dsn=database.writer_url)
    async with files, server:
        yield files, server


async def test_files_and_postgresql_hold_and_answer_the_same(
    stores: tuple[EventStore, EventStore], tmp_path: Path
) -> None:
    files, server = stores
    started = time.perf_counter()
    count = await _fill(files)
    _print(f"appended to files: {count:,} events, {count / (time.perf_counter() - started):,.0f}/s")
    forth = await copy_events(files, server)
    _print(f"files to postgresql: {forth.stored / forth.seconds:,.0f} events/s")
    assert (forth.stored, forth.sequences_kept, forth.times_kept) == (count, count, count)
    await _weigh(server, tmp_path / "files", count)
    sample = [event async for event in files.stream() if event.sequence % _EVERY == 1]
    await _ask(files, server, sample)
    started = time.perf_counter()
    found = await compare_stores(files, server)
    _print(
        f"compared: {count / (time.perf_counter() - started):,.0f} events/s of each; {found.source_checksum}"
    )
    assert found.equal
    assert found.same_order
    assert found.same_sequences
    assert found.same_recorded_at
    async with create_event_store("file", directory=tmp_path / "back") as back:
        report = await copy_events(server, back)
        _print(f"postgresql to files: {report.stored / report.seconds:,.0f} events/s")
        assert (await compare_stores(files, back)).equal


async def _ask(one: EventStore, other: EventStore, sample: list[RecordedEvent]) -> None:
    """Pages, and the pages after them by cursor; single events; whole correlations."""
    rng = random.Random(_SEED)
    met = followed = 0
    for number in range(_QUERIES):
        options = random_query(rng, sample)
        mine, theirs = await one.get_events(options), await other.get_events(options)
        assert mine == theirs, f"query {number}: {options}"
        met += bool(mine.events)
        if mine.has_more and not options.offset:
            onward = options.replace(cursor=mine.next_cursor)
            assert await one.get_events(onward) == await other.get_events(onward), f"query {number}: {onward}"
            followed += 1
    assert met > _QUERIES / 2
    assert followed > _QUERIES / 20
    for event in sample[:: max(1, len(sample) // 50)]:
        assert await one.get_event(event.event_id) == await other.get_event(event.event_id) == event
        assert await one.get_events_by_correlation(
            event.correlation_id
        ) == await other.get_events_by_correlation(event.correlation_id)
    _print(f"{_QUERIES:,} queries with equal answers; {met:,} met events, {followed:,} went on by cursor")


async def _weigh(server: EventStore, directory: Path, count: int) -> None:
    held = (await server.get_metrics()).storage_bytes
    for name, size in {"postgresql, with all indexes": held, **_file_sizes(directory)}.items():
        _print(f"storage: {name}: {size:,} bytes, {size / count:,.1f} an event")
        assert size > 0


def _file_sizes(directory: Path) -> dict[str, int]:
    plain = packed = 0
    for path in directory.glob("events-*.jsonl*"):
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        plain += len(text)
        packed += len(data) if path.suffix == ".gz" else len(gzip.compress(data))
    index = sum(path.stat().st_size for path in directory.glob("index.sqlite*"))
    return {"file, lines": plain, "file, lines as gzip": packed, "file, its index": index}


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  what `make history` is for; pytest keeps it to itself otherwise
