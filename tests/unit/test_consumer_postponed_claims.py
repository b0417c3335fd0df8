"""A claim that fails half-way leaves no lane behind: the client still fetches from where it stood before. One
that had to wait finds the end of the log elsewhere.
"""

from collections.abc import Sequence

import pytest

from fixtures.worker_fakes import Bench, at
from penstock_consumer.interfaces import Listener
from penstock_store.errors import SinkUnavailable
from penstock_store.ingest import Claim, PartitionRef


async def test_nothing_is_passed_over_where_a_skip_fails_beside_a_partition_that_was_claimed() -> None:
    bench = Bench({"accept_loss": frozenset({"orders:1"})})
    first, second = (PartitionRef("cluster", "orders", "t-1", number) for number in (0, 1))
    keys = [f"k{number}" for number in range(30)]
    bench.source.put(*(key.encode() for key in keys))
    bench.source.put(b"kx", b"ky", partition=1)
    bench.sink.position[second] = 0
    bench.sink.gate.clear()  # what is decoded now is not written before it is dropped
    skip, refusals = bench.sink.skip, [SinkUnavailable("away")]

    async def refuse_once(claim: Claim, first: int, next_offset: int, reason: str) -> Claim:
        if refusals:
            raise refusals.pop()
        return await skip(claim, first, next_offset, reason)

    async def nothing(listener: Listener) -> None:
        """Decode some records."""

    async def expire(listener: Listener) -> None:
        bench.source.low[at(1)] = 2
        listener.misplaced(at(1))

    async def write(listener: Listener) -> None:
        bench.sink.gate.set()

    bench.sink.skip = refuse_once  # type: ignore[method-assign]
    bench.source.script.extend((nothing, nothing, expire, write))
    await bench.run(lambda: bench.position(0) == 30 and bench.position(1) == 2)
    stored: Sequence[str] = bench.sink.stored
    assert [key for key in stored if key in keys] == keys
    assert bench.sink.skipped == [(0, 2, "expired")]
    assert bench.sink.position[first] == 30


@pytest.mark.parametrize("recreated", [False, True], ids=["same topic", "made anew"])
async def test_what_the_owner_before_ingests_until_the_claim_is_no_truncation(recreated: bool) -> None:
    bench = Bench({"accept_loss": frozenset({"*"})})
    bench.source.put(b"k0", b"k1")
    claim = bench.sink.claim

    async def wait_for_the_owner(
        refs: Sequence[PartitionRef], met: Sequence[PartitionRef], /
    ) -> dict[PartitionRef, Claim]:
        bench.sink.claim = claim  # type: ignore[method-assign]
        bench.source.put(b"k2", b"k3", b"k4")
        bench.sink.position[refs[0]] = 4
        claims = await claim(refs)
        if recreated:
            bench.source.logs[at()] = [b"k5"]
            bench.source.topic_id = "t-2"
        return claims

    bench.sink.claim = wait_for_the_owner  # type: ignore[method-assign, assignment]
    end = "k5" if recreated else "k4"
    await bench.run(lambda: bench.sink.stored == [end])
    assert not bench.health.stopped
