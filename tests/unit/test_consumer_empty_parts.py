"""A partition of which nothing was taken is no part of a batch: its range of offsets would be empty, which
the books refuse, and the batch would be tried for ever.
"""

from fixtures.waiting import wait_for_async
from fixtures.worker_fakes import Bench, FakeDecoder, FakeRecord, at
from penstock_consumer.batching import Lane, PendingBatch, fill
from penstock_schemas.errors import RegistryUnavailable
from penstock_store.ingest import Claim, PartitionRef


def lane(partition: int, position: int) -> Lane:
    ref = PartitionRef("cluster", "orders", "t-1", partition)
    claim = Claim(group_id="g", ref=ref, epoch=1, position=position)
    return Lane(at(partition), claim, next=position, fence=position, end=99)


def test_records_seen_before_open_no_part() -> None:
    batch, lanes = PendingBatch(0.0), {at(0): lane(0, 5), at(1): lane(1, 0)}
    records = [FakeRecord(at(0), 3, b"k3"), FakeRecord(at(0), 4, b"k4"), FakeRecord(at(1), 0, b"k0")]
    assert fill(batch, records, 0, lanes, FakeDecoder(), {}) == (3, None)
    assert [part.partition.partition for part in batch.lanes] == [1]
    assert all(part.first_offset < part.next_offset for part in batch.rows.parts)
    assert fill(batch, [FakeRecord(at(0), 5, b"k5")], 0, lanes, FakeDecoder(), {}) == (1, None)
    assert [(part.first_offset, part.next_offset) for part in batch.rows.parts] == [(0, 1), (5, 6)]


def test_a_record_that_waits_for_its_schema_opens_no_part() -> None:
    batch, lanes = PendingBatch(0.0), {at(0): lane(0, 0), at(1): lane(1, 0)}
    records = [FakeRecord(at(1), 0, b"k0"), FakeRecord(at(0), 0, b"7:k0")]
    assert fill(batch, records, 0, lanes, FakeDecoder(), {}) == (1, 7)
    assert [part.claim.ref.partition for part in batch.rows.parts] == [1]


async def test_a_batch_that_goes_while_the_registry_is_away_names_only_what_it_holds() -> None:
    bench = Bench()
    bench.source.put(b"k0", partition=1)
    bench.source.put(b"7:k1", partition=0)
    bench.schemas.failures.extend(RegistryUnavailable("503") for _ in range(20))
    await bench.run(lambda: bench.position(0) == 1 and bench.position(1) == 1)
    await wait_for_async(lambda: len(bench.sink.batches) == 2)
    widths = [[part.next_offset - part.first_offset for part in sent.parts] for sent in bench.sink.batches]
    assert widths == [[1], [1]]
