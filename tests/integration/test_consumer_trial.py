"""A record that ends the process that decodes it is found by a process that may end."""

import os
import signal
import sys
import textwrap
from collections.abc import Iterator

import pytest

from fixtures.consuming import PipelineFactory
from fixtures.worker_fakes import Bench, FakeDecoder
from penstock_consumer.errors import RecordEndsProcess
from penstock_consumer.trial import TrialDecoder
from penstock_schemas import Event, EventFields
from penstock_schemas.decoder import Decoder
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.errors import DecodeError, SchemaNotLoaded
from penstock_schemas.registry import InMemoryRegistry
from penstock_schemas.rows import Row, row_of
from penstock_store.ingest import Claim, PartitionRef

# Stands in for a native decoder with a fault: some value ends it, another never lets go.
FAULTY = """
    import os, signal, time
    from penstock_schemas.decoder import Decoder
    from penstock_consumer import trial

    class Faulty(Decoder):
        def row(self, value):
            if b"deadly" in value:
                os.kill(os.getpid(), signal.SIGSEGV)
            return super().row(value)

    trial.Decoder = Faulty
    trial.main()
"""


@pytest.fixture
def trials() -> Iterator[TrialDecoder]:
    made = TrialDecoder(Decoder(), command=(sys.executable, "-c", textwrap.dedent(FAULTY)))
    yield made
    made.close()


def test_good_and_bad_records_come_out_as_without_a_trial(trials: TrialDecoder) -> None:
    registry, plain = InMemoryRegistry(), Decoder()
    event = Event(event_type="order.placed", entity_id="1")
    value = EventEncoder(registry).encode(event, "orders")
    with pytest.raises(SchemaNotLoaded) as missing:
        trials.row(value)
    schema = registry.schema(missing.value.schema_id)
    trials.add_schema(missing.value.schema_id, schema)
    plain.add_schema(1000, schema)
    assert trials.row(value) == row_of(EventFields.of(event))
    with pytest.raises(DecodeError):
        trials.row(value[:-3])


def test_a_record_that_ends_the_process_is_named_and_the_next_one_decoded(trials: TrialDecoder) -> None:
    with pytest.raises(RecordEndsProcess):
        trials.row(b"deadly")
    with pytest.raises(DecodeError):
        trials.row(b"not an event")


def test_a_process_that_somebody_else_ended_accuses_no_record(trials: TrialDecoder) -> None:
    with pytest.raises(DecodeError):
        trials.row(b"not an event")
    assert trials._child is not None
    os.kill(trials._child.pid, signal.SIGKILL)
    with pytest.raises(DecodeError):
        trials.row(b"not an event")


def test_without_a_process_to_try_with_no_record_is_accused() -> None:
    trials = TrialDecoder(Decoder(), command=("/nonexistent/python",))
    with pytest.raises(DecodeError):
        trials.row(b"not an event")


class Deadly(FakeDecoder):
    def row(self, value: bytes) -> Row:
        if value == b"k3":
            raise RecordEndsProcess("it ends the process")
        return super().row(value)


@pytest.mark.parametrize(("attempts", "stored"), [(1, 9), (3, 8)])
async def test_only_a_partition_claimed_without_progress_is_tried(attempts: int, stored: int) -> None:
    bench = Bench()
    bench.engine._careful = Deadly()
    bench.source.put(*[b"k%d" % n for n in range(9)])

    def claimed(ref: PartitionRef) -> Claim:
        return Claim(group_id="g", ref=ref, epoch=1, position=None, attempts=attempts)

    bench.sink._claim = claimed  # type: ignore[method-assign]
    await bench.run(lambda: bench.position() == 9)
    assert len(bench.sink.stored) == stored
    assert [letter.reason for letter in bench.dead_letters.letters] == ["ends_process"] * (9 - stored)


async def test_a_suspected_partition_is_ingested_by_trial(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(10))
    worker = pipeline.start()
    await pipeline.ingested(10)
    await worker.stop()
    await pipeline.rows("UPDATE penstock.offsets SET attempts = 5")
    pipeline.produce([*pipeline.values(10, start=10), ("e1", b"not an event")])
    worker = pipeline.start()
    await pipeline.ingested(21)
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(20)]
    assert [letter.key() for letter in pipeline.dead_letters(1)] == [b"e1"]
    assert (await pipeline.rows("SELECT attempts FROM penstock.offsets"))[0]["attempts"] == 0
