"""The demo's story: emit, wait until PostgreSQL accounts for every record, read back, compare."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Literal, Protocol

from penstock.books import Balance, Books
from penstock.demo.result import DemoResult
from penstock.demo.sample import Poison
from penstock.demo.source import Source
from penstock.demo.tally import Tally
from penstock.errors import InputError, PenstockError, ServerUnavailableError
from penstock.kafka_view import KafkaView
from penstock.settings import DatabaseRole, Settings
from penstock.tail import unread
from penstock.wording import counted
from penstock.worker import WorkerChoices, worker_settings
from penstock_producer.encoded import EncodedEvent
from penstock_producer.producer import Producer
from penstock_schemas import Event, RecordedEvent
from penstock_store.contract import QueryOptions
from penstock_store.postgresql.reader import PostgresEventStore

__all__ = ["DemoError", "DemoProgress", "run_demo"]

Stage = Literal["emit", "ingest", "read"]
Left = Callable[[Mapping[int, int], Mapping[int, int]], int]
"""Records beyond positions and below ends. Blocking."""

_STALL = 60.0  # seconds without any progress: more than a rebalance with Kafka's default delays takes
_POISON_EVERY = 400
_HISTORY = 12
_FLUSH = 120.0
_TICK = timedelta(microseconds=1)  # `until` is exclusive


class DemoError(PenstockError):
    """The demo could not go on. The servers are left running; the text says where to look."""


class DemoProgress(Protocol):
    """Told how far a stage is; `total` is None while nobody knows it. Called from two threads."""

    def __call__(self, stage: Stage, done: int, total: int | None, /) -> None: ...


async def run_demo(settings: Settings, source: Source, progress: DemoProgress) -> DemoResult:
    """Emit `source` to the first topic of the settings and follow it to the end.

    A worker must run. Raises `DemoError`, `InputError` and the producer's and the store's errors.
    """
    topic_name = settings.topics[0]
    view = KafkaView(settings.kafka(), timeout=settings.timeout_seconds)
    cluster, topic = view.cluster(), view.topic(topic_name)
    if topic is None:
        raise DemoError(f"Kafka has no topic {topic_name}, which the worker makes. See: penstock doctor")
    async with Books(
        settings.database(DatabaseRole.READER),
        group_id=settings.group_id,
        cluster_id=cluster.cluster_id,
        topic=topic_name,
        timeout=settings.timeout_seconds,
    ) as books:
        starts = view.end_offsets(topic)
        left = partial(_left, settings, topic_name, view.start_offsets(topic))
        before = await _accounted(books, starts, left, lambda _balance: None)
        tally, began, end = Tally(), time.monotonic(), threading.Event()
        emitter = partial(_emit, settings, topic_name, source, tally, progress, end)
        try:
            emitting = asyncio.create_task(asyncio.to_thread(emitter))
            await _follow(emitting, books, starts, progress)
            emitted = _something(await emitting, source)
        finally:
            end.set()
        ends = view.end_offsets(topic)
        total = sum(ends.values()) - sum(starts.values())
        after = await _accounted(
            books, ends, left, lambda now: progress("ingest", total - now.behind(ends), total)
        )
        progress("ingest", total, total)
        seconds = time.monotonic() - began
    reading = time.monotonic()
    history = await _read_back(settings, tally, progress)
    counts = after.counts - before.counts
    return DemoResult(
        source=source.name,
        topic=topic_name,
        emitted=emitted,
        counts=counts,
        entities=len(tally.entities),
        correlations=len(tally.correlations),
        event_types=len(tally.event_types),
        first=tally.read_first,
        last=tally.read_last,
        seconds=seconds,
        read=tally.read,
        read_seconds=time.monotonic() - reading,
        history=history,
        problems=_problems(tally),
        notes=_notes(source, emitted, counts.total),
    )


def _emit(
    settings: Settings,
    topic: str,
    source: Source,
    tally: Tally,
    progress: DemoProgress,
    end: threading.Event,
) -> int:
    """Emit everything, one after the other, so that each entity's order is the source's. Runs in a thread."""
    config = dict(settings.kafka_config)
    emitted = 0
    waiting: list[Poison] | None = None
    with Producer(
        settings.kafka_bootstrap_servers, topic=topic, schema_registry_url=settings.registry(), config=config
    ) as producer:
        for event in source.events:
            if end.is_set():  # interrupted: what was emitted is on its way, the rest stays where it is
                break
            encoded = producer.encode(event)
            producer.emit(encoded)
            tally.emitted(event)
            emitted += 1
            if waiting is None:
                waiting = source.poison(encoded.value)
            if waiting and emitted % _POISON_EVERY == 0:
                emitted += _emit_poison(producer, event, topic, waiting.pop(0))
            if emitted % 1000 == 0:
                progress("emit", emitted, _estimate(emitted, source.done()))
        producer.flush(_FLUSH)
    progress("emit", emitted, emitted)
    return emitted


def _something(emitted: int, source: Source) -> int:
    if not emitted and source.bad.count:
        first = "; ".join(source.bad.first)
        raise InputError(f"{source.name} holds no event that could be shown: {first}. Give another file.")
    return emitted


def _emit_poison(producer: Producer, event: Event, topic: str, poison: Poison) -> int:
    producer.emit(EncodedEvent(event, topic, poison.value, poison.key))
    return 1


def _estimate(emitted: int, done: float | None) -> int | None:
    return round(emitted / done) if done else None


async def _follow(
    emitting: "asyncio.Task[int]", books: Books, starts: Mapping[int, int], progress: DemoProgress
) -> None:
    """Show how far the worker is while the producer still emits."""
    while not emitting.done():
        balance = await books.balance()
        progress("ingest", _beyond(balance, starts), None)
        hint = asyncio.create_task(books.change())
        await asyncio.wait({emitting, hint}, return_when=asyncio.FIRST_COMPLETED)
        hint.cancel()


def _beyond(balance: Balance, starts: Mapping[int, int]) -> int:
    return sum(max(0, balance.positions.get(number, start) - start) for number, start in starts.items())


async def _accounted(
    books: Books, ends: Mapping[int, int], left: Left, show: Callable[[Balance], object]
) -> Balance:
    """Wait until every record below `ends` has an outcome; gives up when nothing moves for long.

    Where nothing moved since the last look, `left` says whether there are records at all.
    """
    moved, best = time.monotonic(), -1
    while True:
        balance = await books.balance()
        behind = balance.behind(ends)
        show(balance)
        if behind == 0:
            return balance
        if best < 0 or behind < best:
            moved, best = time.monotonic(), behind
        elif (waiting := await asyncio.to_thread(left, balance.positions, ends)) == 0:
            return balance
        elif time.monotonic() - moved > _STALL:
            raise ServerUnavailableError(
                f"Still in Kafka: {counted(waiting, 'record')}. No worker has taken any for {_STALL:.0f} s."
                " The servers are left running; penstock doctor says what is wrong."
            )
        await books.change()


def _left(
    settings: Settings,
    topic: str,
    lows: Mapping[int, int],
    positions: Mapping[int, int],
    ends: Mapping[int, int],
) -> int:
    workers = worker_settings(settings, WorkerChoices())
    return sum(unread(workers, topic, positions, lows, ends).values())


async def _read_back(settings: Settings, tally: Tally, progress: DemoProgress) -> list[RecordedEvent]:
    """Read everything that this run emitted, in the store's order, and one entity's history to show."""
    if tally.first is None or tally.last is None:
        return []
    async with PostgresEventStore(settings.database(DatabaseRole.READER)) as store:
        # An event that was stored before, with the same key, may bear another time: then look everywhere.
        for options in (QueryOptions(since=tally.first, until=tally.last + _TICK), QueryOptions()):
            tally.start_again()
            async for event in store.stream(options):
                if tally.read_back(event) and tally.read % 1000 == 0:
                    progress("read", tally.read, tally.distinct)
            if not tally.missing:
                break
        progress("read", tally.read, tally.read)
        if not tally.entities:
            return []
        tenant, entity = _typical(tally)
        page = await store.get_events(QueryOptions(tenant_id=tenant, entity_id=entity, limit=_HISTORY))
        return list(page.events)


def _typical(tally: Tally) -> tuple[str, str]:
    """The entity with the longest history that can be shown whole."""
    short = {entity: count for entity, count in tally.entities.items() if count <= _HISTORY}
    shown = short or tally.entities
    return max(shown, key=lambda entity: (shown[entity], entity))


def _problems(tally: Tally) -> list[str]:
    problems = []
    if tally.missing:
        problems.append(f"{counted(tally.missing, 'emitted event')} missing in the store")
    if tally.disordered:
        shown = ", ".join(tally.disorder)
        problems.append(
            f"{counted(tally.disordered, 'event')} out of their entity's order, the first: {shown}"
        )
    return problems


def _notes(source: Source, emitted: int, total: int) -> list[str]:
    notes = []
    if source.bad.count:
        first = "; ".join(source.bad.first)
        notes.append(
            f"{counted(source.bad.count, 'line')} of {source.name} not emitted, being no events: {first}"
        )
    if total > emitted:
        notes.append(
            f"others wrote {counted(total - emitted, 'record')} to the topic in the meantime: counted too"
        )
    return notes
