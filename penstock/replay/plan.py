"""What a replay would read, and why not the rest: the books of a group against what the broker has."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from penstock.errors import InputError
from penstock.kafka_view import KafkaView
from penstock.replay.database import connected
from penstock.replay.resolve import Log, resolve
from penstock.replay.span import parse_span
from penstock.settings import Settings
from penstock_store.ingest import PartitionRef
from penstock_store.ingest.replay import ReplayRequest, read_ranges
from penstock_store.ingest.segments import TO_READ, Kind, Segment, divide, reopenable

__all__ = ["Asked", "PartitionPlan", "Plan", "make_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line said."""

    topics: Sequence[str]
    group_id: str
    span: str = "start"
    partitions: Sequence[int] = ()
    """Empty: all."""
    expired: bool = False
    """Also what retention has dropped."""

    def __str__(self) -> str:
        partitions = "".join(f" --partition {number}" for number in self.partitions)
        return f"{','.join(self.topics)} {self.span}{partitions}{' --expired' if self.expired else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionPlan:
    """One partition: what was asked for, divided by kind."""

    ref: PartitionRef
    log: Log
    position: int | None
    """Of the group's worker."""
    segments: Sequence[Segment]
    reopened: int
    """Offsets of expired ranges that are to be read again."""

    @property
    def widths(self) -> Mapping[Kind, int]:
        """Offsets of each kind."""
        found: Counter[Kind] = Counter()
        for segment in self.segments:
            found[segment.kind] += segment.width
        return found

    @property
    def to_read(self) -> int:
        """Offsets, so at most as many records."""
        return sum(self.widths[kind] for kind in TO_READ) + self.reopened


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All partitions that were asked for."""

    asked: Asked
    parts: Sequence[PartitionPlan]

    @property
    def to_read(self) -> int:
        """Offsets over all partitions."""
        return sum(part.to_read for part in self.parts)

    def width(self, kind: Kind) -> int:
        """Offsets of one kind over all partitions."""
        return sum(part.widths[kind] for part in self.parts)

    @property
    def unplaced(self) -> list[PartitionRef]:
        """Partitions that hold records and no worker of the group has a position in."""
        return [part.ref for part in self.parts if part.position is None and part.log.high > 0]

    def request(self) -> ReplayRequest:
        """For `run_replay`."""
        return ReplayRequest(
            bounds={part.ref: (part.log.first, part.log.next) for part in self.parts},
            asked=str(self.asked),
            records=self.to_read,
            expired=self.asked.expired,
        )


async def make_plan(settings: Settings, dsn: str, asked: Asked) -> Plan:
    """Ask broker and books. Raises `SpanError`, `InputError`, and what `connected` raises."""
    logs = _logs(settings, asked)
    async with connected(dsn, settings.timeout_seconds) as connection:
        parts = [await _plan(connection, asked, ref, log) for ref, log in logs.items()]
    return Plan(asked=asked, parts=parts)


def _logs(settings: Settings, asked: Asked) -> dict[PartitionRef, Log]:
    span = parse_span(asked.span, datetime.now(UTC))
    view = KafkaView(settings.kafka(), timeout=settings.timeout_seconds)
    cluster = view.cluster().cluster_id
    logs = {}
    for name in asked.topics:
        topic = view.topic(name)
        if topic is None:
            raise InputError(f"Kafka has no topic {name}: nothing of it can be read again.")
        for number, log in resolve(view, topic, span, asked.partitions or None).items():
            logs[PartitionRef(cluster, name, topic.topic_id, number)] = log
    return logs


async def _plan(
    connection: "asyncpg.Connection[asyncpg.Record]", asked: Asked, ref: PartitionRef, log: Log
) -> PartitionPlan:
    position, ranges = await read_ranges(connection, asked.group_id, ref, log.first, log.next)
    again = reopenable(ranges, log.first, log.next, log.low) if asked.expired else []
    return PartitionPlan(
        ref=ref,
        log=log,
        position=position,
        segments=divide(log.first, log.next, ranges, position=position, low=log.low),
        reopened=sum(item.next - item.first for item in again),
    )
