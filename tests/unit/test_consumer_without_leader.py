"""A partition of which no broker answers waits alone."""

from collections.abc import Sequence

import pytest

from fixtures.worker_fakes import Bench, at
from penstock_consumer.errors import SourceUnavailable
from penstock_consumer.interfaces import Inspected, TopicPartition


def with_mute(bench: Bench, mute: set[TopicPartition]) -> None:
    """The broker says nothing of these."""
    inspect = bench.source.inspect

    async def some(partitions: Sequence[TopicPartition]) -> Inspected:
        return {
            name: SourceUnavailable("no leader") if name in mute else state
            for name, state in (await inspect(partitions)).items()
        }

    bench.source.inspect = some  # type: ignore[method-assign, assignment]


@pytest.fixture
def bench() -> Bench:
    bench = Bench({"check_topics": 0.5})
    bench.source.put(b"k0", b"k1")
    bench.source.put(b"k2", b"k3", partition=1)
    return bench


async def test_the_others_flow_and_it_follows_when_it_has_a_leader(bench: Bench) -> None:
    mute = {at(0)}
    with_mute(bench, mute)

    def healed() -> bool:
        if bench.position(1) == 2 and bench.metric("retries_total", operation="claim") > 3:
            mute.clear()
        return bench.position(0) == 2

    await bench.run(healed)
    assert bench.sink.stored == ["k2", "k3", "k0", "k1"]
    assert len(bench.source.started) == 2, "nobody was claimed anew for its sake"


async def test_one_that_loses_its_leader_while_it_flows_is_not_claimed_anew(bench: Bench) -> None:
    mute = set[TopicPartition]()
    with_mute(bench, mute)

    def looked() -> bool:
        if bench.position(0) == bench.position(1) == 2:
            mute.add(at(0))
        return bool(mute) and bench.clock.now > 1010

    await bench.run(looked)
    assert len(bench.source.started) == 1
