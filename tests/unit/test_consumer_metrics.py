"""What the worker's gauges say while something is away."""

import asyncio
from collections.abc import Sequence

from fixtures.worker_fakes import Bench, at
from penstock_consumer.interfaces import PartitionState, TopicPartition
from penstock_schemas.errors import RegistryUnavailable


def keys(count: int) -> list[bytes]:
    return [b"k%d" % n for n in range(count)]


def gauge(bench: Bench, name: str) -> float:
    return bench.metric(name, topic="orders", partition="0")


async def test_the_lag_grows_while_postgresql_takes_no_batch_and_the_position_does_not() -> None:
    bench = Bench()
    bench.source.put(*keys(30))
    bench.sink.gate.clear()

    def grown() -> bool:
        if bench.source.held and len(bench.source.logs[at()]) == 30:
            bench.source.put(*keys(70))
        return (gauge(bench, "lag"), gauge(bench, "end_offset"), gauge(bench, "position")) == (100, 100, 0)

    await bench.run(grown)


async def test_the_lag_grows_while_the_registry_is_away() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"7:k1")
    bench.schemas.failures.append(RegistryUnavailable("503"))
    back = asyncio.Event()
    bench.clock.sleep = lambda _seconds: back.wait()  # type: ignore[method-assign, assignment, return-value]

    def grown() -> bool:
        if bench.source.held and len(bench.source.logs[at()]) == 2:
            bench.source.put(*keys(98))
        if gauge(bench, "lag") == 99:
            back.set()
        return back.is_set()

    await bench.run(grown)


async def test_what_is_being_written_counts_as_not_yet_committed() -> None:
    bench = Bench()
    bench.source.put(*keys(30))
    bench.sink.gate.clear()
    await bench.run(lambda: bool(bench.source.held))
    taken = bench.metric("records_total", topic="orders")
    assert taken > 10  # one batch is being written, the next one is full
    assert bench.metric("buffered_records") == taken


async def test_nothing_is_not_yet_committed_after_the_last_commit() -> None:
    bench = Bench()
    bench.source.put(*keys(30))
    await bench.run(lambda: (gauge(bench, "position"), gauge(bench, "lag")) == (30, 0))
    assert (bench.metric("buffered_records"), bench.metric("in_flight_bytes")) == (0, 0)


async def test_postgresql_is_not_said_to_be_up_before_it_was_asked() -> None:
    bench = Bench()
    bench.source.put(b"k0")

    async def gone(_partitions: Sequence[TopicPartition]) -> dict[TopicPartition, PartitionState]:
        return {}

    bench.source.inspect = gone  # type: ignore[method-assign]
    await bench.run(lambda: bench.source.fetches > 10)
    assert not bench.health.database_up
    assert bench.metric("database_up") == 0
