"""The story of a load: read a line, make an event of it, emit it, watch how it went."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from penstock.errors import InputError
from penstock.loading.lines import Line
from penstock.loading.parse import NotAnEvent, event_of_line
from penstock.loading.summary import BadLine, End, LoadSummary
from penstock.wording import counted
from penstock_producer import Delivery
from penstock_producer.errors import EventTooLarge, ProducerError
from penstock_schemas import Event, InvalidEvent

__all__ = ["Emit", "LoadWatcher", "OnError", "load_lines"]

OnError = Literal["skip", "stop"]
Emit = Callable[[Event], Delivery | None]
"""Puts one event on its way; None where there is nothing to wait for (a dry run)."""

_WATCH_EVERY = 500


class LoadWatcher(Protocol):
    """What is told about a load while it goes on."""

    def progress(self, summary: LoadSummary) -> None:
        """Called now and then."""

    def bad_line(self, line: BadLine, data: bytes) -> None:
        """Called for each line that did not become an event; `data` is the line."""

    def failed_line(self, line: BadLine) -> None:
        """Called for each event that Kafka did not take."""


class _Stopped(Exception):
    """The first fault ends the load."""


class _Load:
    def __init__(self, emit: Emit, watcher: LoadWatcher, on_error: OnError) -> None:
        self.summary = LoadSummary()
        self._emit = emit
        self._watcher = watcher
        self._stop_at_faults = on_error == "stop"
        self._waiting: deque[tuple[int, Delivery]] = deque()

    def take(self, line: Line) -> None:
        number, data, fault = line
        self.summary.lines += 1
        if fault is not None:
            self._bad(number, fault, data)
        elif not data or data.isspace():
            self.summary.blank += 1
        else:
            self._emit_line(number, data)
        if not number % _WATCH_EVERY:
            self.settle()
            self._watcher.progress(self.summary)

    def taken(self) -> int:
        """Events that the producer took."""
        return self.summary.emitted + self.summary.failed + len(self._waiting)

    def settle(self) -> None:
        """Count the deliveries that Kafka has answered for, in the order of their lines."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            number, delivery = waiting.popleft()
            if not self._count(number, delivery) and self._stop_at_faults:
                raise _Stopped(f"line {number:,} was not delivered")

    def finish(self) -> None:
        """Count what is left; called when the producer was flushed."""
        while self._waiting:
            number, delivery = self._waiting.popleft()
            if delivery.done():
                self._count(number, delivery)
            else:
                self.summary.unanswered += 1

    def _count(self, number: int, delivery: Delivery) -> bool:
        failure = delivery.exception()
        if failure is None:
            self.summary.emitted += 1
            return True
        self.summary.failed += 1
        self._watcher.failed_line(self.summary.note(number, str(failure)))
        return False

    def _emit_line(self, number: int, data: bytes) -> None:
        try:
            delivery = self._emit(event_of_line(data))
        except (NotAnEvent, InvalidEvent, EventTooLarge) as error:
            self._bad(number, str(error), data)
            return
        if delivery is None:
            self.summary.emitted += 1
        else:
            self._waiting.append((number, delivery))

    def _bad(self, number: int, reason: str, data: bytes) -> None:
        self.summary.bad += 1
        self._watcher.bad_line(self.summary.note(number, reason), data)
        if self._stop_at_faults:
            raise _Stopped(f"line {number:,} is bad: {reason}")


def load_lines(
    lines: Iterable[Line],
    emit: Emit,
    flush: Callable[[], object],
    watcher: LoadWatcher,
    *,
    on_error: OnError = "skip",
    limit: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LoadSummary:
    """Emit the events of `lines` one after the other in one thread: each entity's order is the file's.

    Ends at the end of the lines, after `limit` events, at the first fault where `on_error` is "stop", where
    the file breaks off, where the producer takes no more, or at KeyboardInterrupt; then calls `flush` and
    counts. The summary's `end` says which.
    """
    started = clock()
    load = _Load(emit, watcher, on_error)
    try:
        _run(load, lines, limit)
    finally:
        flush()
        load.finish()
        load.summary.seconds = clock() - started
        watcher.progress(load.summary)
    return load.summary


def _run(load: _Load, lines: Iterable[Line], limit: int | None) -> None:
    try:
        for line in lines:
            load.take(line)
            if limit is not None and load.taken() >= limit:
                load.summary.ended(End.LIMIT, f"the limit of {counted(limit, 'event')} was reached")
                return
    except _Stopped as stopped:
        load.summary.ended(End.STOPPED, str(stopped))
    except InputError as error:
        load.summary.ended(End.BROKEN, str(error))
    except ProducerError as error:
        load.summary.ended(End.UNAVAILABLE, str(error))
    except KeyboardInterrupt:
        load.summary.ended(End.INTERRUPTED, "interrupted")
