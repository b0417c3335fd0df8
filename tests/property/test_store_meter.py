"""Latencies of a store: percentiles of the latest calls, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock_store._meter import Meter
from penstock_store.store_contract import Latency


def _after(latencies: list[int]) -> Latency:
    times = [0.0]  # when the meter was made
    now = 0
    for latency in latencies:
        times += [float(now), float(now + latency)]
        now += latency
    ticks = iter([*times, float(now)])
    meter = Meter(lambda: next(ticks))
    for _ in latencies:
        with meter.timed("query"):
            pass
    return meter.metrics("x", events=0, storage_bytes=0, last_sequence=0).query_latency


def test_nothing_called_is_nothing_measured() -> None:
    assert _after([]) == Latency(count=0, total_seconds=0, max_seconds=0)


def test_the_percentiles_of_a_hundred_calls() -> None:
    found = _after(list(range(100, 0, -1)))
    assert (found.p50_seconds, found.p95_seconds, found.p99_seconds, found.max_seconds) == (50, 95, 99, 100)


def test_what_is_long_ago_no_longer_counts() -> None:
    found = _after([1_000] * 50 + [1] * 1_024)
    assert (found.count, found.max_seconds, found.p99_seconds) == (1_074, 1_000, 1)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=300))
def test_a_percentile_is_a_latency_that_so_many_calls_did_not_pass(latencies: list[int]) -> None:
    found = _after(latencies)
    for share, value in ((0.5, found.p50_seconds), (0.95, found.p95_seconds), (0.99, found.p99_seconds)):
        assert value in latencies
        assert sum(latency <= value for latency in latencies) >= share * len(latencies)
        assert sum(latency < value for latency in latencies) < share * len(latencies)
