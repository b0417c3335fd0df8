"""`start=latest` passes over what was there when the group first came, once, and nothing that came later."""

from fixtures.worker_fakes import Bench, at
from penstock_consumer.interfaces import Listener
from penstock_store.ingest import PartitionRef

KEYS = [f"k{number}" for number in range(8)]


async def test_what_a_live_worker_had_of_an_empty_partition_is_not_passed_over() -> None:
    bench = Bench({"start": "latest"})
    bench.source.put()
    bench.sink.gate.clear()  # what is decoded now is not written before it is dropped

    async def produce(listener: Listener) -> None:
        bench.source.put(*(key.encode() for key in KEYS))

    async def decode(listener: Listener) -> None:
        """Take some of them."""

    async def claim_again(listener: Listener) -> None:
        listener.misplaced(at())

    async def write(listener: Listener) -> None:
        bench.sink.gate.set()

    bench.source.script.extend((produce, decode, claim_again, write))
    await bench.run(lambda: bench.position() == len(KEYS))
    assert bench.sink.stored == KEYS
    assert bench.sink.skipped == [(0, 0, "latest")], "the position is written down, nothing is lost"
    assert bench.metric("lost_offsets_total", topic="orders", partition="0") == 0


async def test_what_was_there_is_passed_over_once() -> None:
    bench = Bench({"start": "latest"})
    bench.source.put(b"k-old")

    async def produce(listener: Listener) -> None:
        bench.source.put(*(key.encode() for key in KEYS))

    bench.source.script.append(produce)
    await bench.run(lambda: bench.position() == 1 + len(KEYS))
    assert bench.sink.stored == KEYS
    assert bench.sink.skipped == [(0, 1, "latest")]


async def test_a_partition_that_is_added_later_begins_at_its_beginning() -> None:
    bench = Bench({"start": "latest"})
    bench.source.put(b"k-old")

    async def grow(listener: Listener) -> None:
        bench.source.put(*(key.encode() for key in KEYS), partition=1)
        listener.assigned([at(1)])

    bench.source.script.append(grow)
    await bench.run(lambda: bench.position(1) == len(KEYS))
    assert bench.sink.stored == KEYS
    assert bench.sink.skipped == [(0, 1, "latest")]


async def test_a_partition_that_another_worker_claims_first_is_no_later_one() -> None:
    """Two workers come at once, each with its share of the topic."""
    bench = Bench({"start": "latest"})
    bench.source.put(b"k-old")
    bench.source.put(b"k-older", partition=1)
    other = PartitionRef("cluster", "orders", "t-1", 1)
    await bench.sink.claim([other], [PartitionRef("cluster", "orders", "t-1", 0), other])
    await bench.sink.skip(bench.sink._claim(other), 0, 1, "latest")
    await bench.run(lambda: bench.position() == 1)
    assert bench.sink.stored == []
