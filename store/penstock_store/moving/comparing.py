"""Whether two stores hold the same events: by count and checksum, and where not, which ones."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

from penstock_schemas import RecordedEvent
from penstock_store.contract import EventReader, QueryOptions
from penstock_store.moving._checksum import Sums, bucket_of, content_digest
from penstock_store.moving._standing import last_event

__all__ = ["Comparison", "compare_stores"]

_SHOWN: Final = 20
_TELL_EVERY: Final = 5_000  # events
_LOOK_EVERY: Final = 0.1  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two stores hold, up to the newest event of the source when it began."""

    source_events: int
    target_events: int
    source_checksum: str  # over every field but sequence and recorded_at, whatever the order
    target_checksum: str
    same_sequences: bool
    same_recorded_at: bool
    same_order: bool
    missing: int  # of the source, not in the target
    extra: int  # of the target, not in the source
    different: int  # of one id, with other values
    examples: tuple[str, ...]  # of those, at most 20, as "missing <event id>"

    @property
    def equal(self) -> bool:
        """The same events with the same values; their places aside."""
        mine, theirs = (self.source_events, self.source_checksum), (self.target_events, self.target_checksum)
        return mine == theirs

    @property
    def complete(self) -> bool:
        """All that the source holds is in the target, which may hold more."""
        return not (self.missing or self.different)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {"equal": self.equal, "complete": self.complete, **asdict(self)}


async def compare_stores(
    source: EventReader,
    target: EventReader,
    *,
    up_to: int | None = None,
    patience: float = 5.0,
    skip_corrupted: bool = False,
    on_progress: Callable[[int], object] | None = None,
) -> Comparison:
    """Read both once, at the same time; twice where they differ, to say by what. Events may go on arriving.

    What the source holds up to sequence `up_to`, by default its newest now, has to be in the target, for
    whose mirror or copy it waits `patience` seconds.
    Memory is constant; differing stores need a temporary file of about 60 bytes an event. `on_progress` gets
    the number of events read so far. Raises `StoreError`.
    """
    # In this order: what the target holds by now is of the source up to `newest`, or is not of the source.
    there = await last_event(target, skip_corrupted=skip_corrupted)
    newest = await last_event(source, up_to=up_to, skip_corrupted=skip_corrupted)
    arrived = await _arrival(target, newest, patience)
    ends = (
        QueryOptions(up_to_sequence=_newest(newest), skip_corrupted=skip_corrupted),
        QueryOptions(up_to_sequence=_newest(there, arrived), skip_corrupted=skip_corrupted),
    )
    seen = _Count(on_progress)
    mine, theirs = await asyncio.gather(_sums(source, ends[0], seen), _sums(target, ends[1], seen))
    buckets = frozenset(mine.differing(theirs))
    found = await _differences(source, target, ends, buckets) if buckets else _Differences()
    return Comparison(
        source_events=mine.count,
        target_events=theirs.count,
        source_checksum=mine.checksum,
        target_checksum=theirs.checksum,
        same_sequences=mine.placed == theirs.placed,
        same_recorded_at=mine.timed == theirs.timed,
        same_order=mine.order == theirs.order,
        missing=found.missing,
        extra=found.extra,
        different=found.different,
        examples=tuple(found.examples),
    )


async def _arrival(
    target: EventReader, newest: RecordedEvent | None, patience: float
) -> RecordedEvent | None:
    """Where the target has the source's newest event; None where it does not come in time."""
    if newest is None:
        return None
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while True:
                found = await target.get_event(newest.event_id)
                if found is not None:
                    return found
                await asyncio.sleep(_LOOK_EVERY)
    return None


def _newest(*events: RecordedEvent | None) -> int:
    return max((event.sequence for event in events if event is not None), default=0)


class _Count:
    def __init__(self, tell: Callable[[int], object] | None) -> None:
        self._tell, self._count = tell, 0

    def add(self) -> None:
        self._count += 1
        if self._tell is not None and self._count % _TELL_EVERY == 0:
            self._tell(self._count)


async def _sums(store: EventReader, options: QueryOptions, seen: _Count) -> Sums:
    sums = Sums()
    async with aclosing(store.stream(options)) as events:
        async for event in events:
            sums.add(event)
            seen.add()
    return sums


@dataclass(slots=True)
class _Differences:
    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)


async def _differences(
    source: EventReader, target: EventReader, ends: tuple[QueryOptions, QueryOptions], buckets: frozenset[int]
) -> _Differences:
    """The second reading, of the events in `buckets`, matched by id in a temporary file."""
    with closing(sqlite3.connect("")) as table:  # on disk once it is large, and gone with the connection
        table.execute(
            "CREATE TABLE seen (id BLOB, digest BLOB, source INTEGER DEFAULT 0, target INTEGER DEFAULT 0,"
            " PRIMARY KEY (id, digest)) WITHOUT ROWID"
        )
        for name, store, options in (("source", source, ends[0]), ("target", target, ends[1])):
            insert = (
                f"INSERT INTO seen (id, digest, {name}) VALUES (?, ?, 1)"
                f" ON CONFLICT (id, digest) DO UPDATE SET {name} = {name} + 1"
            )
            async with aclosing(store.stream(options)) as events:
                async for event in events:
                    if bucket_of(event) in buckets:
                        table.execute(insert, _row(event))
        return _matched(table)


def _row(event: RecordedEvent) -> tuple[bytes, bytes]:
    return event.event_id.bytes, content_digest(event)


# By id: values that only the source holds, that only the target holds, and what the target repeats. What only
# the source repeats is no difference: a target that never forgets a key leaves the second out.
_BY_ID: Final = """
CREATE TEMP VIEW differing AS
SELECT id, min(mine, theirs) AS different, max(mine - theirs, 0) AS missing,
       max(theirs - mine, 0) + repeated AS extra
FROM (SELECT id, sum(target = 0) AS mine, sum(source = 0) AS theirs,
             sum(CASE WHEN source THEN max(target - source, 0) ELSE max(target - 1, 0) END) AS repeated
      FROM seen GROUP BY id)
"""


def _matched(table: sqlite3.Connection) -> _Differences:
    table.execute(_BY_ID)
    counts: dict[str, int] = {}
    examples: list[str] = []
    for kind in ("missing", "extra", "different"):
        total = f"SELECT coalesce(sum({kind}), 0) FROM differing"
        counts[kind] = table.execute(total).fetchone()[0]
        named = f"SELECT id FROM differing WHERE {kind} LIMIT ?"
        rows = table.execute(named, (_SHOWN - len(examples),))
        examples += [f"{kind} {UUID(bytes=row[0])}" for row in rows]
    return _Differences(counts["missing"], counts["extra"], counts["different"], examples)
