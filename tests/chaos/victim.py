"""`python -m chaos.victim worker …`: a worker that ends or stops itself at a named point.

CHAOS_POINT names it, CHAOS_ACTION says `kill` (SIGKILL) or `stop` (SIGSTOP), CHAOS_AFTER how often the point
is passed before; it counts from the first batch that this process commits. CHAOS_SINK (JSON) replaces
settings of the sink. It ends with the process CHAOS_PARENT, which started it. Calls to PostgreSQL that
outlast their deadline are told on stderr.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import penstock.worker
from penstock.cli import main
from penstock_consumer.kafka_source import KafkaSource
from penstock_store.ingest import PostgresSink, sink
from penstock_store.ingest._link import Link
from penstock_store.ingest._settle import Settlement

POINTS = ("after_poll", "mid_copy", "before_commit", "after_commit", "before_offset_commit")
LATE = "chaos: late by"


class _Trap:
    """Springs once, after the first batch is committed and the point was passed often enough."""

    def __init__(self, point: str, after: int, signal_: signal.Signals) -> None:
        self._point, self._left, self._signal = point, after, signal_
        self.armed = self._sprung = False

    def passing(self, point: str) -> None:
        if not self.armed or self._sprung or point != self._point:
            return
        self._left -= 1
        if self._left < 0:
            self._sprung = True
            os.kill(os.getpid(), self._signal)


def _set(trap: _Trap) -> None:
    fetch, chunks, write = KafkaSource._fetch, Settlement._chunks, PostgresSink.write
    publish, write_batch = KafkaSource._publish_now, sink.write_batch

    def trapped_fetch(self: KafkaSource, limit: int, wait: float, linger: float) -> Sequence[Any]:
        records = fetch(self, limit, wait, linger)
        if records:
            trap.passing("after_poll")
        return records

    async def trapped_chunks(self: Settlement, indexes: Sequence[int]) -> AsyncIterator[bytes]:
        number = 0
        async for chunk in chunks(self, indexes):
            yield chunk
            number += 1
            if number == 2:  # the header and the first rows are on their way
                trap.passing("mid_copy")

    async def trapped_batch(*args: Any, **kwargs: Any) -> Any:
        written = await write_batch(*args, **kwargs)
        trap.passing("before_commit")
        return written

    async def trapped_write(self: PostgresSink, batch: Any, *, reject: Any) -> Any:
        result = await write(self, batch, reject=reject)
        trap.passing("after_commit")
        trap.armed = True
        return result

    def trapped_publish(self: KafkaSource, *, last: bool = False) -> None:
        if self._positions:
            trap.passing("before_offset_commit")
        publish(self, last=last)

    _replace(KafkaSource, "_fetch", trapped_fetch)
    _replace(KafkaSource, "_publish_now", trapped_publish)
    _replace(Settlement, "_chunks", trapped_chunks)
    _replace(PostgresSink, "write", trapped_write)
    _replace(sink, "write_batch", trapped_batch)


def _time_calls() -> None:
    bounded = Link.bounded

    async def timed(self: Link, work: Coroutine[Any, Any, Any], seconds: float, doing: str) -> Any:
        began = time.monotonic()
        try:
            return await bounded(self, work, seconds, doing)
        finally:
            late = time.monotonic() - began - seconds
            if late > 0:
                sys.stderr.write(f"{LATE} {late:.3f} s: {doing}\n")

    _replace(Link, "bounded", timed)


def _replace(owner: Any, name: str, new: Callable[..., Any]) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} to lay a trap at"
    setattr(owner, name, new)


def _end_with(parent: int) -> None:
    """Linux kills this process with the one that started it, also while it is stopped: nobody else would."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was ended before
        sys.exit("chaos: whoever started this is gone")


_PR_SET_PDEATHSIG = 1


if __name__ == "__main__":
    _end_with(int(os.environ["CHAOS_PARENT"]))
    point = os.environ.get("CHAOS_POINT", "")
    assert point in ("", *POINTS), f"no such point: {point}"
    if point:
        action = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[os.environ.get("CHAOS_ACTION", "kill")]
        _set(_Trap(point, int(os.environ.get("CHAOS_AFTER", "0")), action))
    _time_calls()
    changed = json.loads(os.environ.get("CHAOS_SINK", "{}"))
    _replace(penstock.worker, "SinkSettings", functools.partial(penstock.worker.SinkSettings, **changed))
    sys.exit(main())
