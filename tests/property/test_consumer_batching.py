"""Laws of batching and offset arithmetic, whatever the client hands over."""

from collections import defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from fixtures.worker_fakes import FakeDecoder, FakeRecord, at
from penstock_consumer.backoff import Backoff
from penstock_consumer.batching import Lane, PendingBatch, fill
from penstock_consumer.breaker import DeadLetterBreaker
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
    assert start == (Loss(low, low + width, "latest") if width else low)
    assert place(low, PartitionState("t", low, low + width), "latest") == low


class Sized(PendingBatch):
    """A batch of which only the sizes matter."""

    def __init__(self, records: int, size: int) -> None:
        super().__init__(100.0)
        self.records, self.value_bytes = records, size


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
            batch.value_bytes += records.pop()
    assert batch.records <= most
    assert batch.value_bytes < size + 7 * 5000


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


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 1)), max_size=40))
def test_the_breaker_trips_by_the_share_of_the_latest_records_only(chunks: list[tuple[int, float]]) -> None:
    breaker = DeadLetterBreaker(0.5, 5000)
    seen: list[tuple[int, int]] = []
    for records, share in chunks:
        bad = int(records * share)
        tripped = breaker.observe(records, bad)
        seen += [(records, bad)] if records else []
        assert breaker.records <= 5000 + 2000
        assert breaker.bad <= breaker.records
        assert tripped == (breaker.bad >= 500 and breaker.bad > 0.5 * breaker.records)
    assert not DeadLetterBreaker(1.0, 5000).observe(10**6, 10**6)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), max_size=20),
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), max_size=20),
)
def test_what_was_taken_back_counts_as_if_it_had_never_come(
    kept: list[tuple[int, int]], again: list[tuple[int, int]]
) -> None:
    breaker, other = DeadLetterBreaker(0.5, 10**6), DeadLetterBreaker(0.5, 10**6)
    for chunk in kept:
        breaker.observe(*chunk)
        other.observe(*chunk)
    for chunk in again:
        breaker.observe(*chunk)
        breaker.observe(0, 1)  # refused by PostgreSQL
    breaker.take_back(sum(records for records, _ in again))
    assert (breaker.records, breaker.bad) == (other.records, other.bad)
    breaker.take_back(10**9)
    assert (breaker.records, breaker.bad) == (0, 0)
