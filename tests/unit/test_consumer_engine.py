"""The engine's own logic, with everything around it in memory."""

import asyncio
from collections.abc import Mapping

import pytest

from fixtures.waiting import wait_for_async
from fixtures.worker_fakes import Bench, FakeDecoder, FakeRecord, at
from penstock_consumer.errors import DeadLettersUnavailable, PoisonFlood, SinkFailed, SourceUnavailable
from penstock_consumer.interfaces import Listener, TopicPartition
from penstock_schemas.errors import RegistryRefused, RegistryUnavailable
from penstock_schemas.rows import Row
from penstock_store.errors import SinkBroken, SinkUnavailable, TopicRecreated
from penstock_store.ingest import Outcome, PartitionRef, Rejection

REF = PartitionRef("cluster", "orders", "t-1", 0)


def keys(count: int, start: int = 0) -> list[bytes]:
    return [b"k%d" % n for n in range(start, start + count)]


def names(count: int) -> list[str]:
    return [f"k{n}" for n in range(count)]


async def test_records_are_stored_in_order_and_positions_move_with_them() -> None:
    bench = Bench()
    bench.source.put(*keys(37))
    await bench.run(lambda: len(bench.sink.stored) == 37)
    assert bench.sink.stored == names(37)
    assert bench.position() == 37
    assert bench.source.published[at()] == 37
    assert bench.sink.released == [REF]
    assert bench.source.closed


async def test_a_partition_flows_from_the_position_in_postgresql_not_from_kafkas() -> None:
    bench = Bench()
    bench.source.put(*keys(10))
    bench.sink.position[REF] = 6
    await bench.run(lambda: len(bench.sink.stored) == 4)
    assert bench.source.started[0] == {at(): 6}
    assert bench.sink.stored == ["k6", "k7", "k8", "k9"]


async def test_the_batch_that_fills_while_the_writer_is_busy_is_bounded() -> None:
    bench = Bench()
    bench.source.put(*keys(100))
    bench.sink.gate.clear()
    task = asyncio.create_task(bench.engine.run())
    await wait_for_async(lambda: bench.source.held)
    polled = bench.source.fetches
    await wait_for_async(lambda: bench.source.fetches > polled + 5)  # polling keeps the membership
    assert bench.metric("records_total", topic="orders") <= 2 * 10
    bench.sink.gate.set()
    await wait_for_async(lambda: len(bench.sink.stored) >= 100)
    bench.engine.stop()
    await task
    assert bench.sink.stored == names(100)


async def test_an_intake_at_the_end_of_its_topic_does_not_spin_while_the_writer_is_busy() -> None:
    bench = Bench()
    bench.source.put(*keys(4))
    bench.sink.gate.clear()
    task = asyncio.create_task(bench.engine.run())
    await wait_for_async(lambda: bench.metric("records_total", topic="orders") == 4)
    bench.source.put(*keys(3, start=4))  # the next batch: due before the one under way is written
    await wait_for_async(lambda: bench.metric("records_total", topic="orders") == 7)
    seen = bench.source.fetches
    await wait_for_async(lambda: bench.source.fetches > seen + 20)
    assert min(bench.source.waits[seen + 3 :]) > 0
    bench.sink.gate.set()
    await wait_for_async(lambda: bench.position() == 7)
    bench.engine.stop()
    await task
    assert bench.sink.stored == names(7)


async def test_held_partitions_flow_again_from_the_engines_own_position() -> None:
    bench = Bench()
    bench.source.put(*keys(50))
    bench.sink.failures.extend(("before", SinkUnavailable("away")) for _ in range(3))
    bench.sink.gate.clear()
    task = asyncio.create_task(bench.engine.run())
    await wait_for_async(lambda: bench.source.held)
    # the client lost its place: what it says about its position counts for nothing
    bench.source.flowing.clear()
    bench.sink.gate.set()
    await wait_for_async(lambda: len(bench.sink.stored) >= 50)
    bench.engine.stop()
    await task
    assert bench.sink.stored == names(50)


async def test_records_that_are_not_owned_or_were_seen_are_dropped() -> None:
    bench = Bench()
    bench.source.put(*keys(8))
    bench.sink.position[REF] = 3
    bench.source.extra.extend([FakeRecord(at(5), 0, b"k-foreign"), FakeRecord(at(0), 2, b"k-seen")])
    await bench.run(lambda: bench.position() == 8)
    assert bench.sink.stored == names(8)[3:]


async def test_a_gap_left_by_compaction_is_passed_and_covered() -> None:
    bench = Bench()
    bench.source.put(b"k0")
    bench.source.extra.clear()
    bench.sink.position[REF] = 0

    async def gap(_: Listener) -> None:
        bench.source.extra.append(FakeRecord(at(), 40, b"k40"))
        bench.source.logs[at()] = [b"k0"] + [None] * 40
        bench.source.flowing[at()] = 41

    bench.source.script.extend([_nothing, gap])
    await bench.run(lambda: "k40" in bench.sink.stored)
    assert bench.position() == 41


async def _nothing(_: Listener) -> None:
    return None


async def test_bad_records_go_alone_and_the_rest_is_stored() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"bad", None, b"k1", b"", b"k2")
    await bench.run(lambda: bench.position() == 6)
    assert bench.sink.stored == ["k0", "k1", "k2"]
    assert [(letter.record.offset(), letter.reason) for letter in bench.dead_letters.letters] == [
        (1, "malformed"),
        (4, "malformed"),
    ]
    assert bench.metric("events_total", topic="orders", outcome="tombstone") == 1
    assert bench.metric("events_total", topic="orders", outcome="dead_lettered") == 2


async def test_nothing_is_committed_before_the_dead_letter_topic_acknowledged() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"bad")
    seen = []
    bench.dead_letters.failures.extend(DeadLettersUnavailable("no answer") for _ in range(3))
    send = bench.dead_letters.send

    async def watched(letters: object) -> None:
        seen.append(bench.position())
        await send(letters)  # type: ignore[arg-type]

    bench.dead_letters.send = watched  # type: ignore[method-assign, assignment]
    await bench.run(lambda: bench.position() == 2)
    assert seen == [None] * 4
    assert len(bench.dead_letters.letters) == 1


async def test_a_registry_that_is_away_is_waited_for_and_puts_nothing_into_the_dead_letter_topic() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"7:k1", b"k2")
    bench.schemas.failures.extend(RegistryUnavailable("503") for _ in range(5))
    await bench.run(lambda: bench.position() == 3)
    assert bench.sink.stored == names(3)
    assert not bench.dead_letters.letters
    assert bench.metric("registry_errors_total") == 5
    assert bench.health.registry_up


async def test_a_schema_id_that_the_registry_does_not_know_is_a_dead_letter() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"9:k1", b"9:k2", b"k3")
    bench.schemas.unknown.add(9)
    await bench.run(lambda: bench.position() == 4)
    assert bench.sink.stored == ["k0", "k3"]
    assert [letter.reason for letter in bench.dead_letters.letters] == ["unknown_schema"] * 2
    assert bench.schemas.asked == [9], "asked once a chunk, not once a record"


async def test_an_unavailable_database_is_waited_for_with_the_same_batch() -> None:
    bench = Bench()
    bench.source.put(*keys(3))
    bench.sink.failures.extend(("before", SinkUnavailable("away", sqlstate="57P01")) for _ in range(4))
    await bench.run(lambda: bench.position() == 3)
    assert bench.sink.stored == names(3)
    assert bench.metric("database_errors_total", sqlstate_class="57") == 4
    assert len(bench.clock.slept) == 4


async def test_a_commit_whose_answer_was_lost_stores_nothing_twice() -> None:
    bench = Bench()
    bench.source.put(*keys(30))
    bench.sink.failures.append(("after", SinkUnavailable("connection lost at COMMIT")))
    await bench.run(lambda: len(bench.sink.stored) >= 30)
    assert bench.sink.stored == names(30)


async def test_a_broken_database_stops_the_worker_and_dead_letters_nothing() -> None:
    bench = Bench()
    bench.source.put(*keys(3), b"bad")
    bench.sink.failures.append(("before", SinkBroken("no column recorded_at", sqlstate="42703")))
    with pytest.raises(SinkFailed, match="recorded_at"):
        await bench.run(lambda: False)
    assert bench.position() is None
    assert bench.source.closed


async def test_a_lost_fence_drops_what_was_decoded_and_claims_again_later() -> None:
    bench = Bench()
    bench.source.put(*keys(40))

    async def stolen(_: Listener) -> None:
        bench.sink.epoch[REF] += 1  # another worker
        bench.sink.position[REF] = 25

    bench.source.script.extend([_nothing, stolen])
    await bench.run(lambda: "k39" in bench.sink.stored)
    assert len(bench.sink.stored) == len(set(bench.sink.stored))
    assert bench.position() == 40
    assert bench.metric("fence_lost_total", topic="orders") == 1


async def test_a_revoked_partition_is_drained_and_released() -> None:
    bench = Bench()
    bench.source.put(*keys(6))
    bench.source.put(*keys(6, 100), partition=1)
    released: list[object] = []

    async def revoke(listener: Listener) -> None:
        await listener.revoked([at(0)])
        bench.source.flowing.pop(at(0), None)
        released.extend([bench.position(0), list(bench.sink.released)])

    bench.source.script.extend([_nothing, _nothing, revoke])
    await bench.run(lambda: bench.position(1) == 6)
    position, refs = released
    assert refs == [REF]
    assert position == sum(key in bench.sink.stored for key in names(6))
    assert bench.metric("partitions", state="assigned") == 0


async def test_a_lost_partition_commits_nothing_of_it() -> None:
    bench = Bench()
    bench.source.put(*keys(6))
    bench.sink.gate.clear()

    async def lose(listener: Listener) -> None:
        await listener.lost([at(0)])
        bench.source.flowing.clear()
        bench.sink.gate.set()

    bench.source.script.extend([_nothing, _nothing, lose, _nothing, _nothing])
    await bench.run(lambda: bench.source.fetches > 8)
    assert bench.sink.stored == []
    assert bench.position() is None
    assert bench.sink.released == [], "another worker's claim is not ours to release"


async def test_a_drain_that_takes_too_long_lets_the_partition_go_uncommitted() -> None:
    bench = Bench()
    bench.source.put(*keys(6))
    bench.sink.gate.clear()

    async def revoke(listener: Listener) -> None:
        await asyncio.wait_for(listener.revoked([at(0)]), 1)
        bench.source.flowing.clear()
        bench.sink.gate.set()

    bench.source.script.extend([_nothing, _nothing, revoke])
    await bench.run(lambda: bench.sink.released == [REF])
    assert bench.sink.stored == []


async def test_a_partition_given_back_goes_on_from_postgresql() -> None:
    bench = Bench()
    bench.source.put(*keys(20))

    async def revoke(listener: Listener) -> None:
        await listener.revoked([at(0)])
        bench.source.flowing.clear()

    async def give_back(listener: Listener) -> None:
        bench.sink.position[REF] = 15  # meanwhile another worker wrote
        listener.assigned([at(0)])

    bench.source.script.extend([_nothing, revoke, give_back])
    await bench.run(lambda: bench.position() == 20)
    assert "k14" not in bench.sink.stored
    assert bench.sink.stored[-5:] == names(20)[15:]


async def test_a_claim_is_tried_again_while_postgresql_is_away() -> None:
    bench = Bench()
    bench.source.put(*keys(3))
    bench.sink.claim_failures.extend(SinkUnavailable("away") for _ in range(3))
    await bench.run(lambda: bench.position() == 3)
    assert bench.source.started[0] == {at(): 0}
    assert bench.metric("retries_total", operation="claim") == 3


async def test_expired_offsets_stop_their_partition_and_no_other() -> None:
    bench = Bench()
    bench.source.put(*keys(10))
    bench.source.put(*keys(4, 100), partition=1)
    bench.source.low[at(0)] = 5
    bench.sink.position[REF] = 2
    await bench.run(lambda: bench.position(1) == 4)
    assert bench.position(0) == 2
    assert bench.metric("partition_stopped", topic="orders", partition="0") == 0, "forgotten at the end"
    assert all(at(0) not in started for started in bench.source.started)
    assert not bench.sink.skipped


async def test_counters_are_there_before_the_first_bad_record() -> None:
    bench = Bench()
    bench.source.put(*keys(2))
    await bench.run(lambda: bench.position(0) == 2)
    dead = {"topic": "orders", "outcome": "dead_lettered"}
    assert bench.registry.get_sample_value("penstock_worker_events_total", dead) == 0
    assert bench.registry.get_sample_value("penstock_worker_conflicts_total", {"topic": "orders"}) == 0


async def test_expired_offsets_are_passed_when_told_and_written_down_as_lost() -> None:
    bench = Bench({"accept_loss": frozenset({"orders:0"})})
    bench.source.put(*keys(10))
    bench.source.low[at(0)] = 5
    bench.sink.position[REF] = 2
    await bench.run(lambda: bench.position(0) == 10)
    assert bench.sink.skipped == [(2, 5, "expired")]
    assert bench.sink.stored == names(10)[5:]
    assert bench.metric("lost_offsets_total", topic="orders", partition="0") == 3


async def test_a_recreated_topic_stops_the_partition() -> None:
    bench = Bench()
    bench.source.put(*keys(10))
    bench.source.put(*keys(2, 100), partition=1)
    bench.sink.claim_failures.append(TopicRecreated({REF: "t-0"}))
    await bench.run(lambda: bench.position(1) == 2)
    assert bench.position(0) is None
    assert all(at(0) not in started for started in bench.source.started)


async def test_a_recreated_topic_is_adopted_when_told() -> None:
    bench = Bench({"accept_loss": frozenset({"*"})})
    bench.source.put(*keys(10))
    bench.sink.claim_failures.append(TopicRecreated({REF: "t-0"}))
    await bench.run(lambda: bench.position(0) == 10)
    assert bench.sink.stored == names(10)


async def test_a_topic_made_anew_under_a_running_worker_is_noticed() -> None:
    bench = Bench({"check_topics": 0.5})
    bench.source.put(*keys(5))

    async def recreate(_: Listener) -> None:
        bench.source.topic_id = "t-2"
        bench.source.logs[at()] = keys(3, 50)
        bench.source.flowing[at()] = 5

    bench.source.script.extend([_nothing, _nothing, recreate])
    await bench.run(lambda: bench.position(0, "t-2") == 3)
    assert bench.sink.stored == [*names(5), "k50", "k51", "k52"]


async def test_an_offset_that_the_broker_misses_is_looked_into() -> None:
    bench = Bench()
    bench.source.put(*keys(10))
    bench.sink.position[REF] = 0

    async def misplace(listener: Listener) -> None:
        bench.source.low[at()] = 9
        bench.source.flowing.clear()
        listener.misplaced(at())

    bench.source.script.extend([_nothing, misplace])
    await bench.run(lambda: bool(bench.health.stopped))
    assert (bench.position() or 0) < 9


@pytest.mark.parametrize(("policy", "letters"), [("dead_letter", 1), ("report", 0)])
async def test_conflicts_are_reported_and_dead_lettered_by_policy(policy: str, letters: int) -> None:
    bench = Bench({"conflicts": policy})
    bench.source.put(*keys(3))
    bench.sink.rejections = [
        Rejection(part=0, offset=1, outcome=Outcome.CONFLICT, reason="key_conflict", message="other content")
    ]
    await bench.run(lambda: bench.position() == 3)
    assert [letter.record.offset() for letter in bench.dead_letters.letters] == [1] * letters
    assert all(letter.stage == "TASK_PUT" for letter in bench.dead_letters.letters)


async def test_a_retried_batch_sends_its_dead_letters_once() -> None:
    bench = Bench()
    bench.source.put(b"bad", *keys(3))
    bench.sink.rejections = [
        Rejection(part=0, offset=1, outcome=Outcome.DEAD_LETTERED, reason="row_refused", message="22003")
    ]
    write = bench.sink.write
    attempts = 0

    async def flaky(batch: object, /, *, reject: object) -> object:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            await reject(bench.sink.rejections)  # type: ignore[operator]
            raise SinkUnavailable("lost before COMMIT")
        return await write(batch, reject=reject)  # type: ignore[arg-type]

    bench.sink.write = flaky  # type: ignore[method-assign, assignment]
    await bench.run(lambda: bench.position() == 4)
    assert [letter.record.offset() for letter in bench.dead_letters.letters] == [0, 1]


async def test_a_client_that_cannot_assign_just_now_is_tried_again() -> None:
    bench = Bench()
    bench.source.put(*keys(5))
    flow, refusals = bench.source.flow, 2

    async def refusing(starts: Mapping[TopicPartition, int]) -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise SourceUnavailable("rebalance in progress")
        await flow(starts)

    bench.source.flow = refusing  # type: ignore[method-assign]
    await bench.run(lambda: bench.position() == 5)
    assert bench.sink.stored == names(5)


async def test_a_stop_while_postgresql_is_away_does_not_use_up_the_grace() -> None:
    bench = Bench({"grace": 60.0, "drain": 60.0})
    bench.source.put(*keys(5))
    bench.sink.failures.extend(("before", SinkUnavailable("away")) for _ in range(10**4))
    await bench.run(lambda: bench.metric("retries_total", operation="write") > 3)
    assert bench.sink.stored == []


async def test_a_registry_that_refuses_is_asked_again_as_well() -> None:
    bench = Bench()
    bench.source.put(b"7:k0")
    bench.schemas.failures.append(RegistryRefused("422"))
    await bench.run(lambda: bench.position() == 1)
    assert not bench.dead_letters.letters


async def test_a_flood_of_bad_records_stops_the_worker() -> None:
    bench = Bench({"dead_letter_window": 1000, "pause_after": 0.5})
    bench.source.put(*[b"bad"] * 3000)
    with pytest.raises(PoisonFlood, match="schema registry"):
        await bench.run(lambda: False)
    assert (bench.position() or 0) < 600


async def test_a_stop_writes_what_is_decoded() -> None:
    bench = Bench({"pause_after": 5.0, "grace": 5.0})
    bench.source.put(*keys(8))
    bench.sink.gate.clear()
    task = asyncio.create_task(bench.engine.run())
    await wait_for_async(lambda: bench.metric("records_total", topic="orders") == 8)
    bench.engine.stop()
    asyncio.get_running_loop().call_later(0.1, bench.sink.gate.set)  # the writer is slower than the intake
    await task
    assert bench.position() == 8
    assert bench.sink.released == [REF]


async def test_health_tells_stuck_from_not_able() -> None:
    bench = Bench()
    assert bench.health.ready() is not None
    bench.source.put(*keys(1))
    await bench.run(lambda: bench.position() == 1 and bench.health.ready() is None)
    assert bench.health.live() is None
    bench.clock.now += 100
    assert "has not gone round" in (bench.health.live() or "")


async def test_a_claim_counts_as_an_attempt_where_a_record_may_have_ended_the_worker() -> None:
    """Released, it would never be suspected: the next worker meets the same record, and so on."""

    class Exhausted(FakeDecoder):
        def row(self, value: bytes) -> Row:
            raise MemoryError

    bench = Bench()
    bench.engine._decoder = bench.engine._careful = Exhausted()
    bench.source.put(*keys(1))
    with pytest.raises(MemoryError):
        await bench.run(lambda: False)
    assert bench.sink.released == []


async def test_a_cancelled_worker_leaves_its_attempt_counted() -> None:
    """As one is whose record cannot be decoded within the grace period."""
    bench = Bench()
    bench.source.put(*keys(1))
    task = asyncio.create_task(bench.engine.run())
    await wait_for_async(lambda: bench.position() == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.source.closed
    assert bench.sink.released == []
