"""The records of a run: good ones, repeated ones, and every kind of bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from penstock_consumer.errors import RecordEndsProcess
from penstock_consumer.interfaces import TopicPartition
from penstock_schemas.errors import DecodeError, DecodeReason, SchemaNotLoaded, UnsupportedSchema
from penstock_schemas.fields import EventFields
from penstock_schemas.rows import Row, row_of

TOPIC = "orders"
UNKNOWN, UNSUPPORTED = 9, 8  # schema ids


class Kind(StrEnum):
    EVENT = "event"
    REFUSED = "refused"  # PostgreSQL takes every row but this one
    POISON = "poison"
    TOMBSTONE = "tombstone"
    KILLER = "killer"  # decoding it ends the process


@dataclass(frozen=True, slots=True, eq=False)
class SimRecord:
    """Shaped like `confluent_kafka.Message`."""

    where: TopicPartition
    number: int
    entity: str
    content: bytes | None
    kind: Kind
    fields: EventFields | None = None
    schema: int = 1
    epoch: int = 0

    def topic(self) -> str:
        return self.where.topic

    def partition(self) -> int:
        return self.where.partition

    def offset(self) -> int:
        return self.number

    def key(self) -> bytes | None:
        return self.entity.encode()

    def value(self) -> bytes | None:
        return self.content

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (2, 1_700_000_000_000)

    def leader_epoch(self) -> int:
        return self.epoch


@dataclass
class Log:
    """One partition. `ended` is its high watermark: control records may lie behind the last record."""

    where: TopicPartition
    topic_id: str
    records: dict[int, SimRecord] = field(default_factory=dict)
    low: int = 0
    """The first offset that retention left."""
    ended: int = 0
    last: int = -1
    """Offset of the last record."""
    damaged: int | None = None
    """Offset of a record that cannot be read, until somebody repairs the log."""
    made: float = 0.0
    """When the topic got this partition."""
    led: bool = True
    """Else no broker answers for it."""

    def between(self, first: int, stop: int) -> Iterator[SimRecord]:
        records = self.records
        return (records[offset] for offset in range(first, min(stop, self.ended)) if offset in records)


_BAD = (Kind.POISON, Kind.REFUSED, Kind.TOMBSTONE)


class Writer:
    """Makes records. Their values say where they are to be found; the decoder looks them up."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._bad = random.choice((0.0, 0.02, 0.2))
        self._again = random.choice((0.0, 0.05, 0.3))
        self._gaps = random.choice((0.0, 0.05, 0.3))
        self._schemas = random.choice(((1,), (1, 2, 3), (1, 2, UNKNOWN), (1, UNSUPPORTED)))
        self._entities = random.choice((1, 3, 10))
        self._killers = random.choice((0, 0, 0, 0, 0, 1, 2))
        self.flood = random.random() < 0.06
        """Almost nothing is an event: the producer is at fault, not the records."""
        if self.flood:
            self._bad = 0.95
        self.bad = 0
        self._made = 0
        self._events: list[EventFields] = []
        self.by_value: dict[bytes, SimRecord] = {}

    def append(self, log: Log, count: int) -> None:
        for _ in range(count):
            if self._random.random() < self._gaps:
                log.ended += self._random.randint(1, 5)
            record = self._record(log.where, log.ended)
            log.records[log.ended] = record
            log.last = log.ended
            log.ended += 1
            if record.content is not None:
                self.by_value[record.content] = record
        if self._random.random() < self._gaps:
            log.ended += 1

    def _record(self, where: TopicPartition, offset: int) -> SimRecord:
        self._made += 1
        entity = f"e{self._random.randrange(self._entities)}"
        content, schema = b"v%d" % self._made, self._random.choice(self._schemas)
        kind = Kind.EVENT
        if self._random.random() < self._bad:
            kind = Kind.POISON if self.flood else self._random.choice(_BAD)
        if kind is Kind.POISON and self._killers and self._random.random() < 0.5:
            kind, schema, self._killers = Kind.KILLER, 1, self._killers - 1
        if kind is Kind.TOMBSTONE:
            return SimRecord(where, offset, entity, None, kind)
        if kind is Kind.EVENT and schema in (UNKNOWN, UNSUPPORTED):
            kind = Kind.POISON
        self.bad += kind in (Kind.POISON, Kind.KILLER, Kind.REFUSED)
        if kind in (Kind.POISON, Kind.KILLER):
            return SimRecord(where, offset, entity, content, kind, None, schema)
        fields = self._event(entity, again=kind is Kind.EVENT)
        if kind is Kind.EVENT:
            self._events.append(fields)
        if schema in (UNKNOWN, UNSUPPORTED):
            schema = 1
        return SimRecord(where, offset, entity, content, kind, fields, schema)

    def _event(self, entity: str, *, again: bool) -> EventFields:
        number = self._made
        fresh = EventFields(
            event_id=number.to_bytes(16, "big"),
            event_type="order.placed",
            occurred_at=number,
            actor_type=None,
            actor_id=None,
            entity_id=entity,
            tenant_id="default",
            correlation_id="c",
            causation_id=None,
            schema_version=1,
            idempotency_key=f"k{number}",
            content_hash=number.to_bytes(16, "big"),
            payload=b'{"n":%d}' % number,
            metadata=b"{}",
        )
        if not again or not self._events or self._random.random() >= self._again:
            return fresh
        earlier = self._events[-1 - self._random.randrange(min(20, len(self._events)))]
        match self._random.randrange(4):
            case 0:  # the same key with other content
                return fresh._replace(idempotency_key=earlier.idempotency_key)
            case 1:  # another key with the same event id
                return fresh._replace(event_id=earlier.event_id)
            case _:  # a producer's second try
                return earlier


class SimDecoder:
    """Looks values up. Like the real one it has to be given each schema first."""

    def __init__(self, by_value: dict[bytes, SimRecord], end: Callable[[], None]) -> None:
        self._by_value = by_value
        self._end = end
        self._schemas: set[int] = set()

    def add_schema(self, schema_id: int, schema_json: str) -> None:
        self._schemas.add(schema_id)
        if schema_id == UNSUPPORTED:
            raise UnsupportedSchema("too deep")

    def ends(self, value: bytes) -> bool:
        """Whether decoding it with the schemas that are known ends a process."""
        record = self._by_value[value]
        return record.kind is Kind.KILLER and record.schema in self._schemas

    def row(self, value: bytes) -> Row:
        record = self._by_value[value]
        if record.schema not in self._schemas:
            raise SchemaNotLoaded(record.schema)
        if record.schema == UNSUPPORTED:
            raise UnsupportedSchema("too deep")
        if record.kind is Kind.KILLER:
            self._end()
        if record.fields is None:
            raise DecodeError(DecodeReason.MALFORMED, "not an event")
        return row_of(record.fields)


class SimTrial:
    """Decodes in a process apart first: one that ends there is the record's doing, and nobody else's end."""

    def __init__(self, decoder: SimDecoder) -> None:
        self._decoder = decoder

    def add_schema(self, schema_id: int, schema_json: str) -> None:
        self._decoder.add_schema(schema_id, schema_json)

    def row(self, value: bytes) -> Row:
        if self._decoder.ends(value):
            raise RecordEndsProcess("two processes were tried")
        return self._decoder.row(value)
