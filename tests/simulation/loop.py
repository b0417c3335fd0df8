"""An event loop with virtual time: nothing waits, and a seed decides what runs next."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

Callback = Callable[..., object]


class Stuck(Exception):
    """Nothing is left to run, or what runs does not move the time."""


class _Call:
    """A callback, called in its context. asyncio's own handles do more than a simulation asks for, and are a
    tenth of what it costs.
    """

    __slots__ = ("args", "call", "cancelled", "context")

    def __init__(self, call: Callback, args: tuple[Any, ...], context: contextvars.Context | None) -> None:
        self.call, self.args, self.context = call, args, context
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if self.context is None:
            self.call(*self.args)
        else:
            self.context.run(self.call, *self.args)


class SimLoop(asyncio.AbstractEventLoop):
    """What asyncio's tasks, futures, locks and timeouts need, and no more.

    `disorder`: how often a ready callback is taken out of turn. asyncio keeps their order; threads that
    answer through `call_soon_threadsafe` do not.
    """

    def __init__(self, random: Random, disorder: float) -> None:
        self._random = random
        self._disorder = disorder
        self._now = 1000.0
        self._ready: list[_Call] = []
        self._timers: list[tuple[float, int, _Call]] = []
        self._made = 0
        self.steps = 0

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """The machine slept: all that was due meanwhile is due now."""
        self._now += seconds

    def call_soon(self, callback: Callback, *args: Any, context: contextvars.Context | None = None) -> _Call:
        handle = _Call(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callback, *args: Any, context: contextvars.Context | None = None
    ) -> _Call:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callback, *args: Any, context: contextvars.Context | None = None
    ) -> _Call:
        handle = _Call(callback, args, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks of killed processes leave errors that nobody asks for; what matters is audited."""

    @contextmanager
    def current(self) -> Iterator[None]:
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def run(self, finished: Callable[[], bool], *, steps: int) -> None:
        """Run until `finished`, which is asked whenever nothing is ready; raises Stuck where that cannot come
        any more, or not in `steps`.
        """
        last = self.steps + steps
        ready, chance, disorder = self._ready, self._random.random, self._disorder
        while ready or not finished():
            if not ready and not self._wake():
                raise Stuck("nothing is left to run")
            index = 0
            if len(ready) > 1 and chance() < disorder:
                index = self._random.randrange(len(ready))
            handle = ready.pop(index)
            if not handle.cancelled:
                handle.run()
            self.steps += 1
            if self.steps > last:
                raise Stuck(f"still busy after {steps} steps")

    def _wake(self) -> bool:
        timers = self._timers
        while timers:
            when, _, handle = heapq.heappop(timers)
            if not handle.cancelled:
                self._now = max(self._now, when)
                self._ready.append(handle)
                return True
        return False
