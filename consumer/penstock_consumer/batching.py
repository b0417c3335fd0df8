"""From records to a batch: ownership, offsets, decoding. Pure: no I/O, no clock, no await.

`fill` is the worker's hot loop; what it does costs every record. Everything else here happens once a batch.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock_consumer.errors import RecordEndsProcess
from penstock_consumer.interfaces import DeadLetter, Record, RecordDecoder, TopicPartition
from penstock_consumer.record_headers import read_headers
from penstock_schemas.errors import DecodeError, SchemaNotLoaded
from penstock_schemas.rows import Row
from penstock_store.ingest import Batch, BatchPart, Claim, PartitionRef

__all__ = ["Lane", "PendingBatch", "fill"]

DECODING = "VALUE_CONVERTER"

_WEIGHED = 16  # one of so many records stands for its neighbours' keys and headers


@dataclass(slots=True, eq=False)
class Lane:
    """A partition that is ours, from its claim until it is given up. A new claim makes a new lane."""

    partition: TopicPartition
    claim: Claim
    next: int
    """The offset that may come next; anything lower was seen already."""
    fence: int | None
    """The position that PostgreSQL will hold once every batch taken from here is committed; None: no
    position yet.
    """
    end: int
    """The partition's high watermark when last asked."""
    position: int = 0
    """The next offset to ingest, as PostgreSQL holds it; where it holds none, the first one that is read."""
    leader_epoch: int | None = None
    """Of the record before `next`, where that is known."""
    replaced: bool = False
    """The log is not the one that was ingested: it was truncated and grew again, or the topic is another."""
    suspect_below: int = 0
    """Records below this offset may have ended a worker: they are decoded with care."""
    records: int = 0
    """Taken and not yet counted in the metrics; likewise `bytes`, of their values."""
    bytes: int = 0

    @property
    def resume(self) -> int:
        """The offset to fetch from: the record before `next` shows that the log is still the same."""
        return self.next if self.leader_epoch is None else max(0, self.next - 1)


class PendingBatch:
    """What was decoded and is not yet written: the store's batch, and what is needed to explain its
    failures.
    """

    def __init__(self, opened: float) -> None:
        self.opened = opened
        """When its first record came, by the clock's `monotonic`."""
        self.rows = Batch()
        self.lanes: list[Lane] = []
        """By part index."""
        self.letters: list[DeadLetter] = []
        self.records = 0
        self.record_bytes = 0
        """Of the values, and of keys and headers by a sample."""
        self.decode_seconds = 0.0
        self._chunks: list[Sequence[Record]] = []
        self._parts: dict[TopicPartition, int] = {}

    def __bool__(self) -> bool:
        return self.records > 0

    @property
    def nbytes(self) -> int:
        """What counts against the limit: the records or the rows made of them, whichever is more."""
        return max(self.record_bytes, self.rows.nbytes)

    @property
    def last(self) -> Record:
        """The record decoded last."""
        return self._chunks[-1][-1]

    def keep(self, chunk: Sequence[Record]) -> None:
        """Hold on to the original records, for those that PostgreSQL may refuse."""
        if self._chunks and self._chunks[-1] is chunk:  # it comes in parts where a schema had to be learnt
            return
        self._chunks.append(chunk)
        sample = chunk[::_WEIGHED]
        self.record_bytes += len(chunk) * sum(map(_beside_the_value, sample)) // len(sample)

    def index_of(self, lane: Lane) -> int:
        """The index of the lane's part, also where that is still to be opened."""
        return self._parts.get(lane.partition, len(self.lanes))

    def part_of(self, lane: Lane) -> BatchPart:
        """The lane's part, which begins where the lane stands. Opened with the first record taken: the books
        refuse a part without any.
        """
        index = self.index_of(lane)
        if index == len(self.lanes):
            self._parts[lane.partition] = index
            self.lanes.append(lane)
            self.rows.parts.append(
                BatchPart(
                    claim=lane.claim,
                    expected=lane.fence,
                    first_offset=lane.next,
                    next_offset=lane.next,
                    dead_lettered=0,
                    tombstones=0,
                )
            )
        return self.rows.parts[index]

    def seal(self) -> None:
        """The batch goes to the writer: the next one expects what this one leaves behind."""
        for lane, part in zip(self.lanes, self.rows.parts, strict=True):
            lane.fence = part.next_offset

    def committed(self) -> None:
        """PostgreSQL holds the batch."""
        for lane, part in zip(self.lanes, self.rows.parts, strict=True):
            lane.position = part.next_offset

    def count_from(self, offsets: Mapping[PartitionRef, int]) -> tuple[int, int]:
        """How many records, and how many letters of them, stand at these offsets or above: all of them,
        unless some were read before.
        """
        starts = [offsets.get(lane.claim.ref, 0) for lane in self.lanes]
        parts = self.rows.parts
        if all(part.first_offset >= start for part, start in zip(parts, starts, strict=True)):
            return self.records, len(self.letters)
        records = {
            (index, record.offset())
            for chunk in self._chunks
            for record in chunk
            if (index := self._part_index(record)) >= 0
            and max(starts[index], parts[index].first_offset) <= record.offset() < parts[index].next_offset
        }
        letters = [(self._part_index(letter.record), letter.record.offset()) for letter in self.letters]
        return len(records), len(records.intersection(letters))

    def _part_index(self, record: Record) -> int:
        """-1 where nothing of its partition was taken."""
        return self._parts.get(TopicPartition(record.topic(), record.partition()), -1)

    def find(self, wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], Record]:
        """The original records by (part index, offset). Slow, and rare."""
        found: dict[tuple[int, int], Record] = {}
        for chunk in self._chunks:
            for record in chunk:
                place = self._part_index(record), record.offset()
                if place in wanted:
                    found[place] = record
        return found


def _beside_the_value(record: Record) -> int:
    """Bytes of a record that its value does not count."""
    headers = sum(len(name) + len(value or b"") for name, value in read_headers(record))
    return len(record.key() or b"") + headers


def fill(
    batch: PendingBatch,
    records: Sequence[Record],
    begin: int,
    lanes: Mapping[TopicPartition, Lane],
    decoder: RecordDecoder,
    unknown: Mapping[int, DecodeError],
    careful: RecordDecoder | None = None,
) -> tuple[int, int | None]:
    """Decode `records[begin:]` into `batch`; returns how far it came, and the schema id that it then lacked
    or None.

    Records of a partition that has no lane, or below the lane's next offset, are dropped: a client may hand
    over what was revoked or was seen before. An offset above the next one is a gap left by compaction or a
    transaction marker. A lane whose log turns out to be another one is marked, and nothing of
    the run is taken. `unknown` are schema ids that the registry has no Avro schema for: their records are
    dead letters. `careful` decodes what is suspected of ending the process.
    """
    for partition, first, stop in _runs(records, begin):
        lane = lanes.get(partition)
        if lane is None or lane.replaced:
            continue
        if _is_another(lane, records[first]):
            lane.replaced = True
            continue
        chosen = careful if careful is not None and lane.next < lane.suspect_below else decoder
        reached, schema_id = _fill_run(batch, lane, records[first:stop], chosen, unknown)
        if schema_id is not None:
            return first + reached, schema_id
    return len(records), None


def _runs(records: Sequence[Record], begin: int) -> Iterator[tuple[TopicPartition, int, int]]:
    """Neighbours of one partition: the client hands over long runs, so what is looked up once a run is
    free.
    """
    first, topic, number = begin, "", -1
    for index in range(begin, len(records)):
        record = records[index]
        if record.partition() != number or record.topic() != topic:
            if index > first:
                yield TopicPartition(topic, number), first, index
            first, topic, number = index, record.topic(), record.partition()
    if first < len(records):
        yield TopicPartition(topic, number), first, len(records)


def _fill_run(
    batch: PendingBatch,
    lane: Lane,
    records: Sequence[Record],
    decoder: RecordDecoder,
    unknown: Mapping[int, DecodeError],
) -> tuple[int, int | None]:
    number, letters = batch.index_of(lane), len(batch.letters)
    decode = decoder.row
    rows: list[Row] = []
    offsets: list[int] = []
    expected, taken, size, tombstones = lane.next, 0, 0, 0
    reached, missing = len(records), None
    for index, record in enumerate(records):
        offset = record.offset()
        if offset < expected:
            continue
        value = record.value()
        if value is None:
            tombstones += 1
        else:
            try:
                rows.append(decode(value))
                offsets.append(offset)
            except SchemaNotLoaded as error:
                if error.schema_id not in unknown:
                    reached, missing = index, error.schema_id
                    break
                batch.letters.append(_letter(record, unknown[error.schema_id]))
            except MemoryError:
                raise
            except Exception as error:
                batch.letters.append(_letter(record, error))
            size += len(value)
        expected = offset + 1
        taken += 1
    if not taken:
        return reached, missing
    epoch = next(one.leader_epoch() for one in reversed(records) if one.offset() == expected - 1)
    if _went_back(lane, epoch):
        lane.replaced = True
        del batch.letters[letters:]
        return len(records), None
    batch.rows.extend(number, offsets, rows)
    part = batch.part_of(lane)
    lane.leader_epoch = part.leader_epoch = epoch
    part.dead_lettered += len(batch.letters) - letters
    part.tombstones += tombstones
    lane.next = part.next_offset = expected
    lane.records += taken
    lane.bytes += size
    batch.records += taken
    batch.record_bytes += size
    return reached, missing


def _is_another(lane: Lane, record: Record) -> bool:
    """Whether another record is now where the last one was taken: a leader writes an offset once."""
    if lane.leader_epoch is None or record.offset() != lane.next - 1:
        return False
    return record.leader_epoch() not in (None, lane.leader_epoch)


def _went_back(lane: Lane, epoch: int | None) -> bool:
    """In one log leader epochs only rise."""
    return epoch is not None and lane.leader_epoch is not None and epoch < lane.leader_epoch


def _letter(record: Record, error: Exception) -> DeadLetter:
    if isinstance(error, DecodeError):
        return DeadLetter(record, DECODING, str(error.reason), str(error), _class_name(error))
    if isinstance(error, RecordEndsProcess):
        return DeadLetter(record, DECODING, "ends_process", str(error), _class_name(error))
    # Not an error that decoding may end in, so its text may hold anything: name the class only.
    return DeadLetter(record, DECODING, "unexpected", "decoding failed unexpectedly", _class_name(error))


def _class_name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
