"""What the engine waits out, and what it must not wait for."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from fixtures.waiting import wait_for_async
from fixtures.worker_fakes import Bench, FakeDecoder, at
from penstock_consumer.errors import (
    DeadLettersUnavailable,
    RecordEndsProcess,
    SinkFailed,
    SourceUnavailable,
)
from penstock_consumer.interfaces import DeadLetter, Listener, PartitionState, TopicPartition
from penstock_consumer.kafka_source import KafkaSource
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.settings import BatchLimits, WorkerSettings
from penstock_schemas.errors import RegistryUnavailable
from penstock_schemas.rows import Row
from penstock_store.errors import FenceLost, SinkBroken, TopicRecreated
from penstock_store.ingest import Claim, PartitionRef

REF = PartitionRef("cluster", "orders", "t-1", 0)


async def test_a_broken_database_stops_the_worker_also_while_the_registry_is_away() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"7:k1")
    bench.schemas.failures.extend(RegistryUnavailable("503") for _ in range(10**5))
    bench.sink.failures.append(("before", SinkBroken("no column recorded_at", sqlstate="42703")))
    with pytest.raises(SinkFailed, match="recorded_at"):
        await bench.run(lambda: False)
    assert bench.position() is None


async def test_a_lost_fence_is_recovered_from_also_while_the_registry_is_away() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"7:k1")
    bench.schemas.failures.extend(RegistryUnavailable("503") for _ in range(10**5))
    bench.sink.failures.append(("before", FenceLost([REF])))
    await bench.run(lambda: bench.position() == 1)
    assert bench.metric("fence_lost_total", topic="orders") == 1


async def test_a_topic_that_changes_between_two_claims_is_claimed_again() -> None:
    bench = Bench({"accept_loss": frozenset({"*"})})
    bench.source.put(b"k0")
    bench.sink.claim_failures.extend(TopicRecreated({REF: "t-0"}) for _ in range(2))
    await bench.run(lambda: bench.position() == 1)
    assert bench.metric("retries_total", operation="claim") == 1


async def test_a_partition_whose_log_cannot_be_read_stops_alone() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"k1", b"k2")
    bench.source.put(*[b"k%d" % n for n in range(100, 140)], partition=1)

    async def unreadable(listener: Listener) -> None:
        bench.source.flowing[at(0)] = 2  # the client passed over offset 1 and says so
        listener.unreadable(at(0), "offset 1 failed its CRC")

    bench.sink.position[REF] = 1
    bench.source.script.extend([unreadable])
    await bench.run(lambda: bench.position(1) == 40)
    assert bench.position(0) == 1
    assert "k2" not in bench.sink.stored


async def test_a_broker_that_is_away_says_nothing_about_postgresql() -> None:
    bench = Bench()
    bench.source.put(b"k0")

    async def no_answer(_: object) -> dict[TopicPartition, PartitionState]:
        raise SourceUnavailable("no answer")

    bench.source.inspect = no_answer  # type: ignore[method-assign, assignment]
    await bench.run(lambda: bench.metric("retries_total", operation="claim") > 2)
    assert bench.health.ready() == "PostgreSQL does not take batches", "it was never asked"


async def test_a_dead_letter_topic_that_takes_nothing_shows_in_readiness() -> None:
    bench = Bench()
    bench.source.put(b"bad")
    bench.dead_letters.failures.extend(DeadLettersUnavailable("not acknowledged") for _ in range(5))
    said: list[str | None] = []
    send = bench.dead_letters.send

    async def sending(letters: Sequence[DeadLetter]) -> None:
        said.append(bench.health.ready())
        await send(letters)

    bench.dead_letters.send = sending  # type: ignore[method-assign]
    await bench.run(lambda: bench.position() == 1)
    assert said[0] is None
    assert set(said[1:]) == {"the dead-letter topic takes no records, so batches with bad ones wait"}
    assert bench.health.ready() is None
    assert bench.metric("retries_total", operation="dead_letters") == 5


@pytest.mark.parametrize("stopped", [False, True], ids=["a revocation", "a stop"])
async def test_a_broken_database_stops_the_worker_also_when_something_else_happens(stopped: bool) -> None:
    bench = Bench()
    bench.source.put(b"k0", b"k1")
    bench.sink.gate.clear()
    bench.sink.failures.append(("before", SinkBroken("no column recorded_at", sqlstate="42703")))

    async def nothing(_: Listener) -> None:
        """Decode, and let the writer begin."""

    async def meanwhile(listener: Listener) -> None:
        bench.sink.gate.set()
        if stopped:
            bench.engine.stop()
        else:
            await listener.revoked([at(0)])

    bench.source.script.extend([nothing, nothing, meanwhile])
    with pytest.raises(SinkFailed, match="recorded_at"):
        await bench.run(lambda: False)
    assert bench.position() is None


async def test_a_fence_lost_in_a_revocation_is_counted_and_claimed_again_later() -> None:
    bench = Bench({"fence_backoff": 5.0})
    other = PartitionRef("cluster", "orders", "t-1", 1)
    bench.source.put(b"k0")
    bench.source.put(b"k1", b"k2", partition=1)
    bench.sink.gate.clear()
    bench.sink.failures.append(("before", FenceLost([other])))
    claimed, revoked = list[float](), list[float]()
    claim = bench.sink.claim

    async def timed(refs: Sequence[PartitionRef], *met: Sequence[PartitionRef]) -> dict[PartitionRef, Claim]:
        claimed.append(bench.clock.now)
        return await claim(refs, *met)

    async def nothing(_: Listener) -> None:
        """Decode, and let the writer begin."""

    async def revoke(listener: Listener) -> None:
        bench.sink.gate.set()
        await listener.revoked([at(0)])
        bench.source.flowing.clear()
        revoked.append(bench.clock.now)

    bench.sink.claim = timed  # type: ignore[method-assign, assignment]
    bench.source.script.extend([nothing, nothing, revoke])
    await bench.run(lambda: bench.position(1) == 2)
    assert bench.metric("fence_lost_total", topic="orders") == 1
    assert claimed[1] >= revoked[0] + 5.0
    assert bench.position(0) is None


async def test_records_that_each_take_long_to_try_do_not_make_the_worker_look_dead() -> None:
    """Each hangs two processes: a restart for that would find the same records again."""
    bench = Bench({"batch": BatchLimits(records=30, fetch=20)})
    bench.source.put(*[b"k%d" % n for n in range(40)])
    said = set[str | None]()

    class Hanging(FakeDecoder):
        def row(self, value: bytes) -> Row:
            bench.clock.now += 20.0
            said.add(bench.health.live())
            raise RecordEndsProcess("it does not come to an end")

    def claimed(ref: PartitionRef) -> Claim:
        return Claim(group_id="g", ref=ref, epoch=1, position=None, attempts=3)

    bench.engine._careful = Hanging()
    bench.sink._claim = claimed  # type: ignore[method-assign]
    await bench.run(lambda: bench.position() == 40)
    assert len(bench.dead_letters.letters) == 40
    assert said == {None}


async def test_what_came_after_the_claim_is_not_suspected() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"k1")

    class Refusing(FakeDecoder):
        def row(self, value: bytes) -> Row:
            raise RecordEndsProcess("tried")

    async def nothing(_: Listener) -> None:
        """Decode what was there."""

    async def produce(_: Listener) -> None:
        bench.source.put(b"k2", b"k3")

    def claimed(ref: PartitionRef) -> Claim:
        return Claim(group_id="g", ref=ref, epoch=1, position=None, attempts=3)

    bench.engine._careful = Refusing()
    bench.sink._claim = claimed  # type: ignore[method-assign]
    bench.source.script.extend([nothing, nothing, produce])
    await bench.run(lambda: bench.position() == 4)
    assert bench.sink.stored == ["k2", "k3"]


async def test_a_source_ends_its_thread_also_where_its_closing_is_cut_short() -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "kafka-source"]

    settings = WorkerSettings(bootstrap_servers="127.0.0.1:1", topics=("orders",), group_id="g")
    before, bench = threads(), Bench()
    source = KafkaSource(settings, WorkerMetrics(CollectorRegistry()))
    await source.start(bench.engine)
    closing = asyncio.create_task(source.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await wait_for_async(lambda: threads() == before, what="the end of the source's thread")
