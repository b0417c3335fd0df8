"""One daemon thread with a queue. Unlike an executor's it does not keep the process alive when it is stuck
in C.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

__all__ = ["OneThread"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class OneThread:
    """Runs calls one after the other; they are awaited from any event loop."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The call's result. A caller that is cancelled leaves the call to itself."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()

        def call() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                _answer(loop, future, future.set_exception, error)
            else:
                _answer(loop, future, future.set_result, result)

        self._calls.put(call)
        return await future

    def close(self) -> None:
        """End after the calls that wait already."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _answer(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[R]", settle: Callable[[T], object], value: T
) -> None:
    def answer() -> None:
        if not future.done():
            settle(value)

    if not loop.is_closed():
        loop.call_soon_threadsafe(answer)
