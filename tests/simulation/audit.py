"""What must hold: looked at with every commit, and once more when all is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from penstock_consumer.interfaces import DeadLetter, TopicPartition
from penstock_schemas.rows import row_of
from penstock_store.ingest import Batch, Claim, Outcome, PartitionRef
from penstock_store.ingest.decide import Decision
from simulation.records import Kind, Log, SimRecord
from simulation.world import Process, World

if TYPE_CHECKING:
    from simulation.database import Database

LIMIT = 8  # records of a batch in every simulation
FEWEST = 8  # bad records before the breaker may trip
_CONFLICTS = frozenset({"key_conflict", "event_id_taken"})

Place = tuple[str, int, int]
"""Topic id, partition, offset: names one record for ever."""


class Audited(NamedTuple):
    outcomes: dict[Place, Outcome]
    lost: set[Place]
    last: dict[tuple[str, int, str], tuple[int, int]]
    came: float | None
    flowed: set[tuple[str, int]]


class Audit:
    """Knows the logs, the letters and every outcome; trusts nothing that the worker says."""

    def __init__(
        self, world: World, logs: Mapping[TopicPartition, Log], every: Mapping[tuple[str, int], Log]
    ) -> None:
        self._world = world
        self._logs = logs
        self._every = every
        self.outcomes: dict[Place, Outcome] = {}
        self.letters: set[Place] = set()
        self.lost: set[Place] = set()
        self._last: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._came: float | None = None
        """When the group met the topic."""
        self._flowed: set[tuple[str, int]] = set()
        """Partitions that some worker had."""

    def save(self) -> Audited:
        return Audited(dict(self.outcomes), set(self.lost), dict(self._last), self._came, set(self._flowed))

    def go_back(self, saved: Audited) -> None:
        """Later commits were lost with their server: these records are to come again, and to be accounted for
        as if they never had been.
        """
        self.outcomes, self.lost, self._last, self._came, self._flowed = saved

    def met(self) -> None:
        if self._came is None:
            self._came = self._world.loop.time()

    def flows(self, topic_id: str, partition: int) -> None:
        self._flowed.add((topic_id, partition))

    def refused(self, batch: Batch) -> list[int]:
        """Rows that PostgreSQL does not take."""
        return [
            index for index in range(len(batch)) if self._record(batch, index).kind is Kind.REFUSED
        ]  # fmt: skip

    def _record(self, batch: Batch, index: int) -> SimRecord:
        part, offset = batch.origins[index]
        return self._log(batch.parts[part].claim.ref).records[offset]

    def _log(self, ref: PartitionRef) -> Log:
        return self._every[ref.topic_id, ref.partition]

    def letter(self, letter: DeadLetter, process: Process) -> None:
        """Acknowledged by the dead-letter topic, where only what is bad may go."""
        record = letter.record
        assert isinstance(record, SimRecord)
        decoding, conflict = letter.stage == "VALUE_CONVERTER", letter.reason in _CONFLICTS
        if record.kind is Kind.TOMBSTONE or decoding != (record.kind in (Kind.POISON, Kind.KILLER)):
            self._world.violate("one outcome", f"dead-lettered without cause: {record.value()!r}")
        if conflict and self._world.conflicts == "report":
            self._world.violate("one outcome", f"a conflict was to be reported only: {record.value()!r}")
        if (letter.reason == "ends_process") != (record.kind is Kind.KILLER):
            self._world.violate("one outcome", f"the wrong cause: {letter.reason} of {record.value()!r}")
        place = letter.topic_id, record.partition(), record.offset()
        self.letters.add(place)
        process.letters.add(place)
        if process.stops_floods and self._world.flood and len(process.letters) > FEWEST + LIMIT:
            self._world.violate("flood", f"{process.name} moves the topic into the dead letters")

    # ── with every commit ──────────────────────────────────────────────────────────────────────────────────

    def batch(
        self,
        batch: Batch,
        decision: Decision,
        counts: Sequence[Mapping[Outcome, int]],
        keys: Mapping[tuple[str, str], bytes],
        event_ids: set[bytes],
        first: int,
    ) -> None:
        self._check_rows(batch, decision, keys, event_ids)
        outcomes = _by_origin(batch, decision)
        by_part: list[dict[int, Outcome]] = [{} for _ in batch.parts]
        for part, offset in batch.origins:
            if offset in by_part[part]:
                self._world.violate("nothing twice", f"offset {offset} is in a batch twice")
            by_part[part][offset] = outcomes[part, offset]
        for number, found in enumerate(by_part):
            self._check_part(batch, number, found, counts[number])
        self._check_order(batch, decision, first)

    def _check_rows(
        self, batch: Batch, decision: Decision, keys: Mapping[tuple[str, str], bytes], event_ids: set[bytes]
    ) -> None:
        stored, taken = dict(keys), set(event_ids)
        store, duplicates = set(decision.store), set(decision.duplicates)
        for index, key in enumerate(batch.keys):
            fields = self._record(batch, index).fields
            if fields is None or batch.rows[index] != row_of(fields)[3]:
                self._world.violate("contents", f"{batch.origins[index]} is not the record's row")
            if index in store:
                if key in stored or batch.event_ids[index] in taken:
                    self._world.violate("nothing twice", f"{key} is stored again")
                stored[key] = batch.hashes[index]
                taken.add(batch.event_ids[index])
            elif index in duplicates and stored.get(key) != batch.hashes[index]:
                self._world.violate("one outcome", f"{key} is no duplicate")

    def _check_part(
        self, batch: Batch, number: int, outcomes: dict[int, Outcome], counts: Mapping[Outcome, int]
    ) -> None:
        part = batch.parts[number]
        topic_id, partition = part.claim.ref.topic_id, part.claim.ref.partition
        log = self._log(part.claim.ref)
        tally = dict.fromkeys(Outcome, 0)
        for record in log.between(part.start, part.next_offset):
            outcome = outcomes.get(record.number) or _without_row(record)
            if outcome is None:
                self._world.violate("nothing lost", f"{partition}@{record.number} was passed over")
                continue
            place = topic_id, partition, record.number
            if place in self.outcomes:
                self._world.violate("one outcome", f"{partition}@{record.number} has a second outcome")
            reported = outcome is Outcome.CONFLICT and self._world.conflicts == "report"
            needs_letter = outcome in (Outcome.DEAD_LETTERED, Outcome.CONFLICT) and not reported
            if needs_letter and place not in self.letters:
                self._world.violate("nothing lost", f"{partition}@{record.number} is in no dead letter")
            self.outcomes[place] = outcome
            tally[outcome] += 1
        if tally != dict(counts):
            self._world.violate("books", f"{partition}: {dict(counts)} are counted, {tally} came")

    def _check_order(self, batch: Batch, decision: Decision, first: int) -> None:
        for sequence, index in enumerate(decision.store, first):
            record = self._record(batch, index)
            part = batch.parts[batch.origins[index][0]]
            lane = part.claim.ref.topic_id, record.partition(), record.entity
            offset, earlier = self._last.get(lane, (-1, -1))
            if record.offset() <= offset or sequence <= earlier:
                self._world.violate("order", f"{lane} at {record.offset()} after {offset}")
            self._last[lane] = record.offset(), sequence

    def skipped(self, claim: Claim, first: int, next_offset: int) -> None:
        """Lost, and accepted by the operator: only what the broker does not have any more, or what was there
        before any worker had the partition, where the group was to begin with the latest. One that was made
        after the group met the topic, or with the topic anew, begins at its beginning.
        """
        ref, log = claim.ref, self._log(claim.ref)
        begins = (
            self._world.start == "latest"
            and self._came is not None
            and log.made <= self._came
            and (ref.topic_id, ref.partition) not in self._flowed
        )
        if next_offset > (log.ended if begins else log.low):
            self._world.violate("nothing lost", f"{ref.partition}: {first} to {next_offset} skipped")
        for record in log.between(first, next_offset):
            place = ref.topic_id, ref.partition, record.number
            if place in self.outcomes:
                self._world.violate("one outcome", f"{ref.partition}@{record.number} skipped, was ingested")
            self.lost.add(place)

    # ── when all is done ───────────────────────────────────────────────────────────────────────────────────

    def done(self, database: Database) -> bool:
        """Every position is behind the last record, or nothing was ever there to begin with. What has no
        leader waits alone.
        """
        for where, log in self._logs.items():  # asked after every step: out at the first that is behind
            if not log.led:
                continue
            position = database.position(where, log.topic_id)
            if (log.low if position is None else position) <= log.last:
                return False
        return True

    def finish(self, database: Database) -> None:
        for ref, ranges in database.ranges.items():
            log, row = self._log(ref), database.row(ref)
            current = log is self._logs[log.where]
            if len(ranges) != 1 or (current and ranges[0].next != row.position):
                self._world.violate("books", f"{ref.partition}: ranges {ranges} and position differ")
            total = sum(sum(found.counts.values()) for found in ranges)
            if total != sum(place[:2] == (ref.topic_id, ref.partition) for place in self.outcomes):
                self._world.violate("books", f"{ref.partition}: {total} outcomes in the books")
            if not current:  # deleted, and what was not ingested of it with it
                continue
            for record in log.between(min(ranges[0].first, log.low), log.ended):
                if ranges[-1].next <= record.number < log.low:
                    break  # expired, and no claim came since that would say so
                at = ref.topic_id, ref.partition, record.number
                if (at in self.outcomes) == (at in self.lost):
                    self._world.violate("nothing lost", f"{at} is nowhere, or in two places")


def _without_row(record: SimRecord) -> Outcome | None:
    if record.kind in (Kind.POISON, Kind.KILLER):
        return Outcome.DEAD_LETTERED
    return Outcome.TOMBSTONE if record.kind is Kind.TOMBSTONE else None


def _by_origin(batch: Batch, decision: Decision) -> dict[tuple[int, int], Outcome]:
    origins = batch.origins
    return {
        **{origins[index]: Outcome.STORED for index in decision.store},
        **{origins[index]: Outcome.DUPLICATE for index in decision.duplicates},
        **{(found.part, found.offset): found.outcome for found in decision.rejections},
    }
