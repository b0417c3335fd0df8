"""Counts and latencies of one store object."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Final

from penstock_store.appending import AppendResult
from penstock_store.breaker import CircuitBreaker
from penstock_store.store_contract import Latency, StoreMetrics

__all__ = ["Meter"]


_LATEST: Final = 1_024  # calls whose latencies are kept: 8 KB, and what a percentile of now is made of


class _Calls:
    def __init__(self) -> None:
        self._count = 0
        self._total = 0.0
        self._longest = 0.0
        self._latest: deque[float] = deque(maxlen=_LATEST)

    def took(self, seconds: float) -> None:
        self._count += 1
        self._total += seconds
        self._longest = max(self._longest, seconds)
        self._latest.append(seconds)

    def latency(self) -> Latency:
        ordered = sorted(self._latest)

        def percentile(share: float) -> float:
            """The least latency that `share` of the calls did not pass."""
            return ordered[ceil(share * len(ordered)) - 1] if ordered else 0.0

        return Latency(
            count=self._count,
            total_seconds=self._total,
            max_seconds=self._longest,
            p50_seconds=percentile(0.5),
            p95_seconds=percentile(0.95),
            p99_seconds=percentile(0.99),
        )


class Meter:
    """`timed("append")` or `timed("query")` around a call; `seconds` is the clock."""

    def __init__(self, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._made = seconds()
        self._calls = {"append": _Calls(), "query": _Calls()}
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
            self._calls[kind].took(self._seconds() - started)

    def count(self, results: Iterable[AppendResult]) -> None:
        """What an append came to."""
        for result in results:
            if result.stored:
                self.appended += 1
            else:
                self.duplicates += 1

    def metrics(
        self,
        backend: str,
        *,
        events: int,
        storage_bytes: int,
        last_sequence: int,
        corrupted: int = 0,
        breaker: CircuitBreaker | None = None,
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
            append_latency=self._calls["append"].latency(),
            query_latency=self._calls["query"].latency(),
            observed_seconds=self._seconds() - self._made,
            circuit=None if breaker is None else breaker.state,
            circuit_opened=0 if breaker is None else breaker.opened,
        )
