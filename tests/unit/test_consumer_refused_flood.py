"""A flood of rows that PostgreSQL refuses stops the worker as one of undecodable records does."""

import pytest

from fixtures.worker_fakes import Bench
from penstock_consumer.errors import DeadLettersUnavailable, PoisonFlood
from penstock_consumer.settings import BatchLimits
from penstock_store.errors import FenceLost, SinkUnavailable
from penstock_store.ingest import Batch, Outcome, PartitionRef, Rejection


def refusing(bench: Bench, share: int) -> None:
    """Every `share`th record of each batch is refused, however small the batches are."""
    write = bench.sink.write

    async def refuse(batch: Batch, /, *, reject: object) -> object:
        bench.sink.rejections = [
            Rejection(
                part=part, offset=at, outcome=Outcome.DEAD_LETTERED, reason="row_refused", message="23514"
            )
            for part, at in batch.origins
            if at % share == 0
        ]
        return await write(batch, reject=reject)  # type: ignore[arg-type]

    bench.sink.write = refuse  # type: ignore[method-assign, assignment]


async def test_a_flood_of_refused_rows_stops_the_worker() -> None:
    bench = Bench({"dead_letter_window": 1000})
    bench.source.put(*[b"k%d" % n for n in range(3000)])
    refusing(bench, 1)
    with pytest.raises(PoisonFlood, match="constraints"):
        await bench.run(lambda: False)
    assert 400 < (bench.position() or 0) <= 500
    assert len(bench.dead_letters.letters) < 500


async def test_some_refused_rows_do_not() -> None:
    bench = Bench({"dead_letter_window": 1000})
    bench.source.put(*[b"k%d" % n for n in range(3000)])
    refusing(bench, 3)
    await bench.run(lambda: bench.position() == 3000)
    assert len(bench.dead_letters.letters) == 1000


async def test_batches_larger_than_the_window_are_judged_whole() -> None:
    """Of each a third is refused: more than half a window, and no flood."""
    bench = Bench({"dead_letter_window": 1000, "batch": BatchLimits(records=2000, fetch=500)})
    bench.source.put(*[b"k%d" % n for n in range(6000)])
    refusing(bench, 3)
    await bench.run(lambda: bench.position() == 6000)
    assert len(bench.dead_letters.letters) == 2000
    assert max(len(batch) for batch in bench.sink.batches) > 1500


async def test_a_flood_of_undecodable_records_stops_the_worker_before_a_letter_of_the_batch() -> None:
    bench = Bench({"dead_letter_window": 1000, "batch": BatchLimits(records=2000, fetch=500)})
    bench.source.put(*[b"k%d" % n for n in range(500)], *[b"bad"] * 3000)
    with pytest.raises(PoisonFlood, match="schema registry"):
        await bench.run(lambda: False)
    assert len(bench.dead_letters.letters) <= 500


@pytest.mark.parametrize(
    "error", [DeadLettersUnavailable("no answer"), SinkUnavailable("away")], ids=["kafka", "postgresql"]
)
async def test_a_refused_row_is_counted_once_however_often_its_batch_is_tried(error: Exception) -> None:
    bench = Bench({"dead_letter_window": 1000})
    bench.source.put(b"k0", b"k1")
    refusing(bench, 2)
    if isinstance(error, SinkUnavailable):
        bench.sink.failures.extend(("before", error) for _ in range(600))
    else:
        bench.dead_letters.failures.extend(error for _ in range(600))
    await bench.run(lambda: bench.position() == 2)
    assert [letter.record.offset() for letter in bench.dead_letters.letters] == [0]


async def test_records_that_come_again_after_a_lost_fence_count_once() -> None:
    bench = Bench({"dead_letter_window": 1000, "fence_backoff": 0.01})
    bench.source.put(*[b"bad"] * 300)
    fenced = FenceLost([PartitionRef("cluster", "orders", "t-1", 0)])
    bench.sink.failures.extend(("before", fenced) for _ in range(200))
    await bench.run(lambda: bench.position() == 300)
