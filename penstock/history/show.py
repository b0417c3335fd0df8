"""From the store to stdout: as fast as it is read, or live until a signal."""

import asyncio
import os
import select
import signal
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TextIO

from penstock.history.lines import LineWriter
from penstock_schemas import RecordedEvent
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

__all__ = ["Shown", "follow", "show"]

_TOGETHER: Final = 500  # lines written at once
_QUIET: Final = 0.05  # seconds without another event after which a live reader writes what it has
_TAIL: Final = 10  # events shown before the live ones, where no start was given


@dataclass(kw_only=True)
class Shown:
    """What was shown. `more` follow; `newest` of the whole store is looked up where nothing matched."""

    count: int = 0
    last: RecordedEvent | None = None
    more: bool = False
    newest: RecordedEvent | None = None


@dataclass(frozen=True, kw_only=True)
class _Output:
    """Writes in a thread: a pager that does not read must not stop the loop, whose deadlines go on."""

    lines: LineWriter
    out: TextIO
    shown: Shown = field(default_factory=Shown)

    async def write(self, events: list[RecordedEvent]) -> None:
        text = "" if self.shown.count else self.lines.begin(events)
        text += "".join(map(self.lines.line, events))
        self.shown.count += len(events)
        self.shown.last = events[-1] if events else self.shown.last
        await asyncio.to_thread(self._put, text)

    async def finish(self) -> None:
        await asyncio.to_thread(self._put, self.lines.end())

    def _put(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


async def show(settings: ReaderSettings, options: QueryOptions, lines: LineWriter, out: TextIO) -> Shown:
    """Write the events there are now, at most `options.limit`.

    Raises what the store raises, and `BrokenPipeError` where nobody reads `out` any more.
    """
    output = _Output(lines=lines, out=out)
    left = options.limit
    async with PostgresEventStore(settings) as store:
        one_more = options.replace(limit=None if left is None else left + 1)
        async with aclosing(store.stream(one_more)) as events, aclosing(_gathered(events)) as batches:
            async for batch in batches:
                if left is not None:
                    output.shown.more = len(batch) > left
                    del batch[left:]
                    left -= len(batch)
                if batch:
                    await output.write(batch)
        if not output.shown.count:
            page = await store.get_events(QueryOptions(order_by=OrderBy.TIME, descending=True, limit=1))
            output.shown.newest = page.events[0] if page.events else None
            await output.write([])  # an empty table has no header; an empty array is one
    await output.finish()
    return output.shown


async def follow(
    settings: ReaderSettings,
    options: QueryOptions,
    lines: LineWriter,
    out: TextIO,
    note: Callable[[str], None],
    *,
    from_start: bool,
) -> Shown:
    """Write matching events as they come, until SIGINT or SIGTERM, or `options.limit` events.

    `from_start`: `options` say where to begin; else after the last few that are there. `note` gets words
    for people. Raises `BrokenPipeError` as soon as nobody reads `out` any more, also while nothing comes.
    """
    output = _Output(lines=lines, out=out)
    with suppress(asyncio.CancelledError), _ended_by_signals(), _ended_by_its_reader(out):
        async with PostgresEventStore(settings) as store:
            tail = [] if from_start else await _tail(store, options)
            if tail:
                await output.write(tail)
            after = tail[-1].sequence if tail else 0
            note("Following; Ctrl-C ends it.")
            async with (
                aclosing(store.subscribe(after, options)) as events,
                aclosing(_as_they_come(events)) as batches,
            ):
                async for batch in batches:
                    await output.write(batch)
    await output.finish()
    return output.shown


async def _tail(store: PostgresEventStore, options: QueryOptions) -> list[RecordedEvent]:
    """The last few up to the safe mark, oldest first: nothing below them can come later."""
    mark = await store.safe_sequence()
    limit = _TAIL if options.limit is None else min(_TAIL, options.limit)
    page = await store.get_events(options.replace(up_to_sequence=mark, descending=True, limit=limit))
    return list(reversed(page.events))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def _ended_by_its_reader(out: TextIO) -> Iterator[None]:
    """A pipe that was closed fails only the next write, and the next event may be hours away."""
    pipe = _pipe(out)
    if pipe is None:
        yield
        return
    loop, task, closed = asyncio.get_running_loop(), asyncio.current_task(), False
    assert task is not None  # noqa: S101 - a coroutine runs in one
    poll = select.poll()
    poll.register(pipe, 0)  # errors and hang-ups are told unasked

    def look() -> None:
        nonlocal closed
        loop.remove_reader(pipe)
        closed = bool(poll.poll(0))
        if closed:
            task.cancel()

    loop.add_reader(pipe, look)  # of a pipe's writing end only its closing is "readable"
    try:
        yield
    except asyncio.CancelledError:
        if closed:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(pipe)


def _pipe(out: TextIO) -> int | None:
    """The descriptor of `out` where it is a pipe; a file is never closed, a terminal sends a signal."""
    try:
        number = out.fileno()
    except (OSError, ValueError):  # not a file of the system, as in tests
        return None
    return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None


async def _gathered(events: AsyncIterator[RecordedEvent]) -> AsyncGenerator[list[RecordedEvent], None]:
    batch = []
    async for event in events:
        batch.append(event)
        if len(batch) == _TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


async def _as_they_come(
    events: AsyncGenerator[RecordedEvent, None],
) -> AsyncGenerator[list[RecordedEvent], None]:
    """Batches that do not wait: what came is handed on as soon as nothing follows at once."""
    batch: list[RecordedEvent] = []
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            await asyncio.wait({coming}, timeout=_QUIET if batch else None)
            event = coming.result() if coming.done() else None
            if event is not None:
                batch.append(event)
                coming = asyncio.ensure_future(anext(events, None))
            if batch and (event is None or len(batch) == _TOGETHER):
                yield batch
                batch = []
            if event is None and coming.done():
                break
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError):
            await coming
