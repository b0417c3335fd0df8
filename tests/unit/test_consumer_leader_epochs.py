"""A record is known by its offset and leader epoch: a log that was truncated and grew again is another."""

import pytest

from fixtures.worker_fakes import Bench, FakeDecoder, FakeRecord, at
from penstock_consumer.batching import Lane, PendingBatch, fill
from penstock_consumer.interfaces import Listener
from penstock_store.ingest import Claim, PartitionRef


def lane(position: int, epoch: int | None) -> Lane:
    ref = PartitionRef("cluster", "orders", "t-1", 0)
    claim = Claim(group_id="g", ref=ref, epoch=1, position=position, leader_epoch=epoch)
    return Lane(at(), claim, next=position, fence=position, end=99, leader_epoch=epoch)


def taken(one: Lane, *records: tuple[int, int | None]) -> list[int]:
    """Offsets that go into the batch, of records given by (offset, leader epoch)."""
    batch = PendingBatch(0.0)
    found = [FakeRecord(at(), offset, b"k%d" % offset, epoch) for offset, epoch in records]
    assert fill(batch, found, 0, {at(): one}, FakeDecoder(), {}) == (len(found), None)
    assert all(part.leader_epoch == one.leader_epoch for part in batch.rows.parts)
    return [offset for _, offset in batch.rows.origins]


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        pytest.param([(4, 2), (5, 2), (6, 3)], [5, 6], id="the log that was ingested"),
        pytest.param([(5, 3), (9, 3)], [5, 9], id="the record before is compacted away"),
        pytest.param([(4, None), (5, None)], [5], id="a broker that does not say"),
    ],
)
def test_a_log_that_goes_on_is_taken(records: list[tuple[int, int | None]], wanted: list[int]) -> None:
    one = lane(5, 2)
    assert taken(one, *records) == wanted
    assert (one.replaced, one.leader_epoch) == (False, records[-1][1])


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([(4, 3), (5, 3)], id="another record where one was ingested"),
        pytest.param([(5, 1), (6, 1)], id="an older leader behind a newer one"),
        pytest.param([(4, 2), (5, 2), (6, 0)], id="a topic made anew within one chunk"),
    ],
)
def test_nothing_is_taken_of_another_log(records: list[tuple[int, int | None]]) -> None:
    one = lane(5, 2)
    assert taken(one, *records) == []
    assert (one.replaced, one.next) == (True, 5)
    assert taken(one, (5, 9)) == [], "nor later"


def test_fetching_begins_one_before_where_the_epoch_is_known() -> None:
    assert [lane(5, 2).resume, lane(5, None).resume, lane(0, 2).resume] == [4, 5, 0]


async def test_a_truncation_that_the_client_tells_of_stops_the_partition() -> None:
    bench = Bench()
    bench.source.put(b"k0", b"k1")

    async def nothing(listener: Listener) -> None:
        """The lane begins to flow behind it."""

    async def truncated(listener: Listener) -> None:
        listener.misplaced(at(), truncated=True)

    bench.source.script.extend([nothing, truncated])
    await bench.run(lambda: bool(bench.health.stopped))
    assert bench.sink.stored in ([], ["k0", "k1"])
