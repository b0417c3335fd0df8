"""Laws of batching and offset arithmetic, whatever the client hands over."""

from collections import defaultdict
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.worker_fakes import FakeDecoder, FakeRecord, at
from penstock_consumer import breaker as breaker_module
from penstock_consumer.backoff import Backoff
from penstock_consumer.batching import Lane, PendingBatch, fill
from penstock_consumer.breaker import DeadLetterBreaker
from penstock_consumer.errors import PoisonFlood
from penstock_consumer.interfaces import PartitionState, TopicPartition
from penstock_consumer.placement import Loss, place
from penstock_consumer.rhythm import Rhythm
from penstock_consumer.settings import BatchLimits
from penstock_schemas.errors import UnknownSchemaId
from penstock_store.ingest import Claim, PartitionRef

values = st.sampled_from([b"k1", b"k2", b"bad", b"", None, b"7:k3", b"9:k4"])
handed_over = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 30), values).map(lambda r: FakeRecord(at(r[0]), r[1], r[2])),
    max_size=60,
)


def lane(partition: int, position: int) -> Lane:
    ref = PartitionRef("c", "orders", "t", partition)
    claim = Claim(group_id="g", ref=ref, epoch=1, position=position)
    return Lane(at(partition), claim, next=position, fence=position, end=99)


def fill_all(
    batch: PendingBatch, records: list[FakeRecord], lanes: dict[TopicPartition, Lane], decoder: FakeDecoder
) -> None:
    """As the engine does: schema 7 is found, 9 is unknown to the registry."""
    begin, unknown = 0, {}
    while True:
        begin, missing = fill(batch, records, begin, lanes, decoder, unknown)
        if missing is None:
            return
        if missing == 9:
            unknown[9] = UnknownSchemaId(9, "the registry")
        else:
            decoder.add_schema(missing, "{}")


@given(st.lists(handed_over, max_size=4), st.dictionaries(st.integers(0, 3), st.integers(0, 20), max_size=3))
def test_every_owned_offset_is_accounted_for_once_and_no_other(
    chunks: list[list[FakeRecord]], owned: dict[int, int]
) -> None:
    lanes = {at(partition): lane(partition, position) for partition, position in owned.items()}
    batch = PendingBatch(0.0)
    decoder = FakeDecoder()
    accepted: dict[int, list[FakeRecord]] = defaultdict(list)
    expected = dict(owned)
    for chunk in chunks:
        fill_all(batch, chunk, lanes, decoder)
        for record in chunk:
            partition, offset = record.partition(), record.offset()
            if partition in expected and offset >= expected[partition]:
                accepted[partition].append(record)
                expected[partition] = offset + 1
    for index, part in enumerate(batch.rows.parts):
        partition = batch.lanes[index].partition.partition
        records = accepted[partition]
        bad = [r.offset() for r in records if r.value() is not None and (r.value() or b"-")[-2:-1] != b"k"]
        bad += [r.offset() for r in records if r.value() == b"9:k4"]
        rows = [offset for number, offset in batch.rows.origins if number == index]
        letters = [x.record.offset() for x in batch.letters if x.record.partition() == partition]
        assert sorted(letters) == sorted(set(bad))
        assert part.dead_lettered == len(letters)
        assert part.tombstones == sum(record.value() is None for record in records)
        assert rows == sorted(rows)
        assert len(rows) + part.dead_lettered + part.tombstones == len(records)
        assert part.expected == owned[partition] == part.first_offset
        assert part.next_offset == expected[partition] == lanes[at(partition)].next
    assert batch.records == sum(map(len, accepted.values()))


@given(handed_over, st.integers(0, 60))
def test_where_a_chunk_is_cut_makes_no_difference(records: list[FakeRecord], cut: int) -> None:
    def rows(chunks: list[list[FakeRecord]]) -> tuple[object, ...]:
        batch, lanes = PendingBatch(0.0), {at(p): lane(p, 0) for p in range(3)}
        decoder = FakeDecoder()
        for chunk in chunks:
            fill_all(batch, chunk, lanes, decoder)
        return (
            batch.rows.keys, batch.rows.origins, batch.records, [x.record for x in batch.letters],
            [(part.first_offset, part.next_offset, part.dead_lettered) for part in batch.rows.parts],
        )  # fmt: skip

    assert rows([records]) == rows([records[:cut], records[cut:]])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_the_fences_of_batches_form_a_chain(sizes: list[int]) -> None:
    ours, position = lane(0, 0), 0
    for size in sizes:
        batch = PendingBatch(0.0)
        records = [FakeRecord(at(0), position + n, b"k%d" % n) for n in range(size)]
        fill_all(batch, records, {at(0): ours}, FakeDecoder())
        batch.seal()
        (part,) = batch.rows.parts
        assert (part.expected, part.next_offset) == (position, position + size)
        position += size


@given(st.one_of(st.none(), st.integers(0, 100)), st.integers(0, 50), st.integers(0, 50))
def test_a_partition_starts_at_its_position_or_says_what_is_lost(
    position: int | None, low: int, width: int
) -> None:
    state = PartitionState("t", low, low + width)
    start = place(position, state, "earliest")
    if isinstance(start, Loss):
        assert position is not None
        assert not low <= position <= low + width
        assert start.accepted(by_operator=True) == (start.reason == "expired") == (position < low)
        assert not start.accepted(by_operator=False)
        assert start.explanation
    else:
        assert start == (low if position is None else position)
        assert low <= start <= low + width


@given(st.integers(0, 50), st.integers(0, 50))
def test_what_latest_passes_over_is_written_down(low: int, width: int) -> None:
    start = place(None, PartitionState("t", low, low + width), "latest")
    assert start == Loss(low, low + width, "latest"), "an empty partition, too, gets a position"
    assert start.accepted(by_operator=False)
    assert place(low, PartitionState("t", low, low + width), "latest") == low


class Sized(PendingBatch):
    """A batch of which only the sizes matter."""

    def __init__(self, records: int, size: int) -> None:
        super().__init__(100.0)
        self.records, self.record_bytes = records, size


@given(st.integers(1, 100), st.integers(1024, 10**6), st.lists(st.integers(1, 5000), max_size=60))
def test_a_batch_passes_its_limits_by_less_than_a_chunk_of_what_it_knows(
    most: int, size: int, records: list[int]
) -> None:
    rhythm = Rhythm(BatchLimits(records=most, bytes=size, fetch=7))
    batch = Sized(0, 0)
    while records and not rhythm.is_full(batch):
        chunk = rhythm.chunk(batch)
        assert 1 <= chunk <= 7
        assert batch.records + chunk <= most
        for _ in range(min(chunk, len(records))):
            batch.records += 1
            batch.record_bytes += records.pop()
    assert batch.records <= most
    assert batch.record_bytes < size + 7 * 5000


@given(st.integers(0, 2000), st.integers(0, 40), st.integers(1, 100))
def test_keys_and_headers_count_also_of_records_without_a_value(header: int, key: int, count: int) -> None:
    class Heavy(FakeRecord):
        def key(self) -> bytes:
            return b"k" * key

        def headers(self) -> list[tuple[str, bytes | None]]:
            return [("h", b"x" * header), ("none", None)]

    batch, records = PendingBatch(0.0), [Heavy(at(), number, None) for number in range(count)]
    fill_all(batch, list(records), {at(): lane(0, 0)}, FakeDecoder())
    batch.keep(records)
    batch.keep(records)  # the rest of it, once its schema is there
    assert batch.nbytes == count * (key + header + 5)


@given(st.floats(0, 10), st.booleans(), st.integers(0, 10))
def test_a_batch_is_due_at_once_when_nothing_more_waits(age: float, caught_up: bool, records: int) -> None:
    limits = BatchLimits(records=10, fetch=10, linger=0.01, age=0.5)
    rhythm, batch = Rhythm(limits), Sized(records, 10)
    due = rhythm.is_due(batch, 100.0 + age, caught_up=caught_up)
    if not records:
        assert not due
    else:
        assert due == (caught_up or records == 10 or 100.0 + age - 100.0 >= limits.age)
    # Without records, or with a batch that waits for the writer, news can be waited for; else more is there.
    assert (rhythm.patience(batch, due=due) > 0) == (due or not records)


@given(st.integers(1, 50), st.integers(1, 100), st.lists(st.booleans(), max_size=12))
def test_an_idle_writer_takes_twice_as_much_each_time_while_more_waits(
    fetch: int, most: int, takes: list[bool]
) -> None:
    rhythm, enough = Rhythm(BatchLimits(records=most, fetch=fetch)), fetch

    def due(records: int, *, caught_up: bool = False) -> bool:
        return rhythm.is_due(Sized(records, 0), 100.0, caught_up=caught_up)

    for caught_up in takes:
        wanted = min(enough, most)
        assert due(wanted)
        assert not due(wanted - 1)
        if caught_up:
            assert due(1, caught_up=True)
            enough = fetch
        rhythm.taken()
        enough = min(2 * enough, most)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_backoff_grows_to_its_bound(seed: int, attempts: int) -> None:
    backoff = Backoff(Random(seed), first=0.1, most=5.0)
    waits = [backoff.next() for _ in range(attempts)]
    assert all(0.05 <= wait <= 5.0 for wait in waits)
    assert all(wait >= 2.5 for wait in waits[7:])
    backoff.reset()
    assert backoff.next() <= 0.1


def batch_of(partition: int, first: int, values: list[bytes]) -> PendingBatch:
    batch = PendingBatch(0.0)
    records = [FakeRecord(at(partition), first + n, value) for n, value in enumerate(values)]
    fill_all(batch, records, {at(partition): lane(partition, first)}, FakeDecoder())
    if records:
        batch.keep(records)
    return batch


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1)), max_size=40))
def test_the_breaker_trips_by_the_share_of_the_latest_records_only(chunks: list[tuple[int, float]]) -> None:
    breaker, lenient = DeadLetterBreaker(0.5, 150), DeadLetterBreaker(1.0, 150)
    position = 0
    with patch.object(breaker_module, "FEWEST_BAD", 15):
        for records, share in chunks:
            bad = int(records * share)
            batch = batch_of(0, position, [b"bad"] * bad + [b"k1"] * (records - bad))
            position += records
            try:
                breaker.begin(batch)
            except PoisonFlood:
                assert breaker.bad >= 15
                assert breaker.bad > 0.5 * breaker.records
            else:
                assert breaker.bad < 15 or breaker.bad <= 0.5 * breaker.records
            assert breaker.bad <= breaker.records <= 150 + 60
            lenient.begin(batch)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(1, 20), st.sets(st.integers(0, 60))),
        max_size=20,
    )
)
def test_the_breaker_counts_a_record_once_however_often_it_is_read(
    batches: list[tuple[int, int, int, set[int]]],
) -> None:
    """Partitions are lost, and given back at any earlier position, or later, after another's commits."""
    breaker = DeadLetterBreaker(1.0, 10**6)
    log = [b"bad" if offset % 3 == 0 else b"k1" for offset in range(60)]
    judged: dict[int, int] = defaultdict(int)
    seen, bad = set(), set()
    for partition, first, size, rejected in batches:
        batch = batch_of(partition, first, log[first : first + size])
        breaker.begin(batch)
        # Those below were judged, or passed over as another worker's: they have their outcome.
        new = {(partition, offset) for offset in range(max(first, judged[partition]), first + size)}
        judged[partition] = max(judged[partition], first + size)
        seen |= new
        bad |= {(part, offset) for part, offset in new if offset % 3 == 0}
        refused = {offset for offset in rejected if first <= offset < first + size and offset % 3}
        ref = lane(partition, 0).claim.ref
        for _ in range(2):  # as the batch is tried again
            breaker.refused([(ref, offset) for offset in refused])
        assert breaker.records == len(seen)
        assert len(bad) <= breaker.bad


def test_a_refused_record_counts_once_while_it_may_come_again() -> None:
    breaker, ref = DeadLetterBreaker(1.0, 10**6), lane(0, 0).claim.ref
    for _ in range(3):
        breaker.begin(batch_of(0, 4, [b"k1", b"k1", b"bad"]))
        breaker.refused([(ref, 4), (ref, 5)])
    assert (breaker.records, breaker.bad) == (3, 3)
    breaker.begin(batch_of(0, 7, [b"k1"]))  # those before it are committed
    breaker.refused([(ref, 7)])
    assert (breaker.records, breaker.bad) == (4, 4)


def test_what_never_comes_again_was_read_all_the_same() -> None:
    """A batch whose answer was lost with its partition may be committed. Taken back from the count, as once
    it was, it let a worker move a topic into the dead letters (seed 11921 of the simulation).
    """
    breaker = DeadLetterBreaker(0.5, 10**6)
    with patch.object(breaker_module, "FEWEST_BAD", 8):
        breaker.begin(batch_of(0, 0, [b"bad"] * 4))
        with pytest.raises(PoisonFlood):
            breaker.begin(batch_of(1, 0, [b"bad"] * 4))
