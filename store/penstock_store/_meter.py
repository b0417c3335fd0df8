"""Counts and latencies of one store object."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from penstock_store.appending import AppendResult
from penstock_store.store_contract import Latency, StoreMetrics

__all__ = ["Meter"]


class Meter:
    """`append()` and `query()` around a call; `seconds` is the clock."""

    def __init__(self, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._made = seconds()
        self._calls: dict[str, list[float]] = {"append": [0, 0.0, 0.0], "query": [0, 0.0, 0.0]}
        self.appended = 0
        self.duplicates = 0
        self.errors = 0

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """`kind`: append or query. What raises counts as an error."""
        started = self._seconds()
        try:
            yield
        except Exception:
            self.errors += 1
            raise
        finally:
            took = self._seconds() - started
            figures = self._calls[kind]
            figures[0] += 1
            figures[1] += took
            figures[2] = max(figures[2], took)

    def count(self, results: Iterable[AppendResult]) -> None:
        """What an append came to."""
        for result in results:
            if result.stored:
                self.appended += 1
            else:
                self.duplicates += 1

    def metrics(
        self, backend: str, *, events: int, storage_bytes: int, last_sequence: int, corrupted: int = 0
    ) -> StoreMetrics:
        """The figures of now, with those that the store itself knows."""
        return StoreMetrics(
            backend=backend,
            events=events,
            storage_bytes=storage_bytes,
            last_sequence=last_sequence,
            appended=self.appended,
            duplicates=self.duplicates,
            errors=self.errors,
            corrupted=corrupted,
            append_latency=self._latency("append"),
            query_latency=self._latency("query"),
            observed_seconds=self._seconds() - self._made,
        )

    def _latency(self, kind: str) -> Latency:
        count, total, longest = self._calls[kind]
        return Latency(count=int(count), total_seconds=total, max_seconds=longest)
