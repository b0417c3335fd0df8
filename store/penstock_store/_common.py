"""What backends share: reads that follow from others, live reading without a server, snapshots' checks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_schemas._text import check_identifier, exact_json
from penstock_store._selecting import page, page_limit
from penstock_store.checkpoint_records import Batch
from penstock_store.contract import OrderBy, Page, QueryOptions, beginning, beginning_time, exactly
from penstock_store.store_errors import InvalidSnapshot

__all__ = ["EVERYTHING", "BatchedReads", "DerivedReads", "LocalReads", "snapshot_json"]

EVERYTHING: Final = QueryOptions()
_BIGINT: Final = 2**63 - 1
_INTEGER: Final = 2**31 - 1
_BATCH: Final = 500  # events


def snapshot_json(key: str, state: JsonValue, sequence: int, state_version: int) -> bytes:
    """The state's JSON text. Raises `InvalidSnapshot` where a part cannot be stored by some backend."""
    try:
        check_identifier(key)
        text = exact_json(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSnapshot(f"the snapshot's key or state cannot be stored: it {error}") from error
    whole = type(sequence) is int and type(state_version) is int  # True is none
    if not whole or not 0 <= sequence <= _BIGINT or not 1 <= state_version <= _INTEGER:
        raise InvalidSnapshot(
            "sequence must be a whole number from 0, that of an event, and state_version one from 1;"
            f" got {sequence!r} and {state_version!r}"
        )
    return text


class DerivedReads(ABC):
    """The reads that are `stream` with other options, the same for every backend."""

    @abstractmethod
    def stream(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]: ...

    async def _page(self, options: QueryOptions) -> Page:
        limit = page_limit(options)
        async with aclosing(self.stream(options.replace(limit=limit + 1))) as found:
            return page([event async for event in found], options, limit)

    async def get_events_by_correlation(self, correlation_id: str) -> list[RecordedEvent]:
        """All events of one correlation, by occurred_at, then sequence. `stream` holds less memory of huge
        ones.
        """
        correlation_id = exactly("correlation_id", correlation_id)
        options = QueryOptions(correlation_id=correlation_id, order_by=OrderBy.TIME)
        return [event async for event in self.stream(options)]

    def stream_since(
        self, start: int | datetime, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[RecordedEvent, None]:
        """After sequence `start`, by sequence; or, where it is a time, those that occurred since, by time.
        Bounds of `options` hold too.
        """
        if isinstance(start, datetime):
            since = beginning_time(start, options)
            return self.stream(options.replace(since=since, order_by=OrderBy.TIME, descending=False))
        after = beginning(start, options, "start")
        return self.stream(options.replace(after_sequence=after, order_by=OrderBy.SEQUENCE, descending=False))


class BatchedReads(DerivedReads):
    """A subscription that is made of batches."""

    @abstractmethod
    def batches(self, after: int = 0, options: QueryOptions = EVERYTHING) -> AsyncGenerator[Batch, None]: ...

    async def subscribe(
        self, after: int = 0, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[RecordedEvent, None]:
        """By sequence: every matching event after sequence `after`, then those to come, each once; never
        skips.

        Order, cursor and offset of `options` do not apply. Ends after `limit` events, or past
        `up_to_sequence`, where one is given.
        """
        async with aclosing(self.batches(after, options)) as found:
            async for batch in found:
                for event in batch.events:
                    yield event


class LocalReads(BatchedReads):
    """`stream` and `_last_sequence` make the rest. `_woken`: set whenever this object appended."""

    poll_interval: float

    def __init__(self) -> None:
        self._news: set[asyncio.Event] = set()

    @abstractmethod
    async def initialize(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def _last_sequence(self) -> int: ...

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    def _wake(self) -> None:
        for woken in self._news:
            woken.set()

    async def batches(
        self, after: int = 0, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[Batch, None]:
        """`subscribe` in batches; an empty one says that there was no more."""
        position = beginning(after, options)
        remaining, up_to = options.limit, options.up_to_sequence
        base = options.replace(order_by=OrderBy.SEQUENCE, descending=False, cursor=None, offset=0)
        woken = asyncio.Event()
        self._news.add(woken)
        try:
            while remaining != 0:
                woken.clear()  # before looking: what is appended meanwhile wakes us again
                ceiling = await self._last_sequence()
                bound = ceiling if up_to is None else min(ceiling, up_to)
                now = base.replace(after_sequence=position, up_to_sequence=bound, limit=remaining)
                async with aclosing(self._in_batches(now)) as news:
                    async for events in news:
                        position = events[-1].sequence
                        remaining = None if remaining is None else remaining - len(events)
                        yield Batch(events, position)
                if remaining != 0:
                    position = max(position, bound)
                    yield Batch((), position)
                if up_to is not None and ceiling >= up_to:
                    return
                if remaining != 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self.poll_interval):
                            await woken.wait()
        finally:
            self._news.discard(woken)

    async def _in_batches(self, options: QueryOptions) -> AsyncGenerator[tuple[RecordedEvent, ...], None]:
        events: list[RecordedEvent] = []
        async with aclosing(self.stream(options)) as found:
            async for event in found:
                events.append(event)
                if len(events) == _BATCH:
                    yield tuple(events)
                    events = []
        if events:
            yield tuple(events)
