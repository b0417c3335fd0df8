"""Bugs, each put into one function, that the simulation has to find.

Those of the worker replace the production function. The fence and the order of deduplication are SQL in
production and live in the simulated database here: bugs planted there show that the audit would see them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from penstock_consumer import assignment as assignment_module
from penstock_consumer import engine as engine_module
from penstock_consumer.batching import PendingBatch, fill
from penstock_consumer.breaker import DeadLetterBreaker
from penstock_consumer.claiming import Claiming
from penstock_consumer.engine import Engine
from penstock_consumer.errors import DeadLettersUnavailable, SourceUnavailable
from penstock_consumer.interfaces import DeadLetter, PartitionState, TopicPartition
from penstock_consumer.placement import Loss, place
from penstock_consumer.rejections import Rejects
from penstock_consumer.rhythm import Rhythm
from penstock_schemas.errors import DecodeError, DecodeReason
from penstock_store.errors import FenceLost, SinkUnavailable
from penstock_store.ingest import Batch, BatchPart, PartitionRef, WriteResult
from penstock_store.ingest.decide import Known
from simulation.database import Database, Offset
from simulation.services import SimSink
from simulation.world import Start

Self = Any  # whose method it would be


async def _publish_before_the_commit(self: Self, batch: PendingBatch) -> WriteResult:
    result: WriteResult
    self._source.publish(
        {lane.partition: part.next_offset for lane, part in zip(batch.lanes, batch.rows.parts, strict=True)}
    )
    result = await _write(self, batch)
    return result


_write = Engine._write


async def _release_without_draining(self: Self, partitions: Sequence[TopicPartition]) -> None:
    await self._release(self._assignment.forget(partitions))


async def _only_forget_what_is_lost(self: Self, partitions: Sequence[TopicPartition]) -> None:
    self._assignment.forget(partitions)


async def _reset_but_keep_the_batch(
    self: Self, slow: Sequence[TopicPartition] = (), delay: float = 0.0
) -> None:
    await self._stop_writer()
    self._in_flight = None
    self._assignment.reset(slow, delay)
    self._start_writer()


async def _reset_without_claiming(
    self: Self, slow: Sequence[TopicPartition] = (), delay: float = 0.0
) -> None:
    await self._stop_writer()
    self._batch, self._in_flight = PendingBatch(self._clock.monotonic()), None
    self._start_writer()


async def _start_where_the_client_stands(self: Self, starts: Mapping[TopicPartition, int]) -> None:
    known = {where: self._source.positions.get(where, start) for where, start in starts.items()}
    await _flow(self, {where: max(start, known[where]) for where, start in starts.items()})


_flow = Engine._flow


async def _give_up_a_batch_that_failed(self: Self, batch: PendingBatch) -> WriteResult:
    rejects = Rejects(batch, self._dead_letters, "dead_letter", self._metrics, lambda refused: None)
    try:
        await rejects.send_owed()
        result: WriteResult = await self._sink.write(batch.rows, reject=rejects.send_rejected)
    except (SinkUnavailable, DeadLettersUnavailable):
        result = WriteResult(counts=tuple({} for _ in batch.lanes), partition=None)
    return result


async def _retry_a_lost_fence(self: Self, batch: PendingBatch) -> WriteResult:
    while True:
        try:
            return await _write(self, batch)
        except FenceLost:
            await self._clock.sleep(0.1)


async def _do_not_wait_for_letters(self: Self, letters: Sequence[DeadLetter]) -> None:
    if letters:
        asyncio.get_running_loop().create_task(self._dead_letters.send(letters))


async def _send_letters_only_once(self: Self) -> None:
    owed, self._owed = self._owed, ()
    await self._send(owed)


def _count_no_tombstones(batch: PendingBatch, *args: Any) -> tuple[int, int | None]:
    result = fill(batch, *args)
    for part in batch.rows.parts:
        part.tombstones = 0
    return result


def _take_what_was_seen(
    batch: PendingBatch, records: Any, begin: int, lanes: Any, *args: Any
) -> tuple[int, int | None]:
    for record in records[begin:]:
        lane = lanes.get(TopicPartition(record.topic(), record.partition()))
        if lane is not None and record.offset() < lane.next:
            lane.next = record.offset()
    return fill(batch, records, begin, lanes, *args)


async def _blame_the_record_for_the_registry(
    self: Self, schema_id: int, unknown: dict[int, DecodeError]
) -> None:
    try:
        self._decoder.add_schema(schema_id, await self._schemas.schema(schema_id))
    except Exception:
        unknown[schema_id] = DecodeError(DecodeReason.UNKNOWN_SCHEMA, "no schema")


def _seal_nothing(self: Self) -> None:
    """The next batch expects what the last one expected."""


def _expect_the_first_offset(self: Self) -> None:
    for number, part in enumerate(self.rows.parts):
        if part.expected is not None:
            part.expected = min((at for index, at in self.rows.origins if index == number), default=None)
    _seal(self)


_seal = PendingBatch.seal


def _never_full(self: Self, batch: PendingBatch) -> bool:
    return False


def _no_fence(self: Self, part: BatchPart) -> bool:
    return True


def _epoch_alone(self: Self, part: BatchPart) -> bool:
    offset: Offset = self.row(part.claim.ref)
    return offset.epoch == part.claim.epoch


def _position_alone(self: Self, part: BatchPart) -> bool:
    offset: Offset = self.row(part.claim.ref)
    return offset.position == part.expected


def _look_for_no_twins(self: Self, batch: Batch) -> Known:
    return Known()


def _begin_adopted_anywhere(self: Self) -> int | None:
    return None


def _remember_over_a_failover(self: Self) -> None:
    """What the server before had stored counts as stored."""


def _read_on_behind_damage(self: Self, partition: TopicPartition, why: str) -> None:
    """As librdkafka does."""


def _never_trip(self: Self, records: int, bad: int) -> None:
    """Nothing is a flood."""


def _dead_letter_conflicts_all_the_same(self: Self, *args: Any) -> None:
    _make_rejects(self, *args)
    self._conflicts = "dead_letter"


_make_rejects = Rejects.__init__


def _decode_carelessly(batch: PendingBatch, *args: Any) -> tuple[int, int | None]:
    return fill(batch, *args[:-1])


async def _believe_the_end_of_before_the_claim(self: Self, found: Any, claims: Any) -> Any:
    return found


def _begin_an_empty_partition_without_a_position(
    position: int | None, state: PartitionState, start: Start
) -> int | Loss:
    return state.low if position is None and state.low == state.high else place(position, state, start)


def _meet_nothing(self: Self, states: Any) -> list[PartitionRef]:
    return []


async def _claim_all_or_none(self: Self, partitions: Sequence[TopicPartition]) -> Any:
    found, claims = await _claim(self, partitions)
    for state in found.values():
        if isinstance(state, SourceUnavailable):
            raise state
    return found, claims


_claim = Claiming.claim


Planted = tuple[object, str, Callable[..., Any]]

PLANTED: dict[str, Planted] = {
    "offset committed early": (Engine, "_write", _publish_before_the_commit),
    "drain skipped": (Engine, "revoked", _release_without_draining),
    "lost partition still committed": (Engine, "lost", _only_forget_what_is_lost),
    "batch not dropped on reset": (Engine, "_reset", _reset_but_keep_the_batch),
    "reset does not claim again": (Engine, "_reset", _reset_without_claiming),
    "position taken from the client": (Engine, "_flow", _start_where_the_client_stands),
    "failed batch given up": (Engine, "_write", _give_up_a_batch_that_failed),
    "lost fence tried again": (Engine, "_write", _retry_a_lost_fence),
    "dead letter not awaited": (Rejects, "_send", _do_not_wait_for_letters),
    "dead letters marked as sent before they are": (Rejects, "send_owed", _send_letters_only_once),
    "tombstone not counted": (engine_module, "fill", _count_no_tombstones),
    "redelivered record taken": (engine_module, "fill", _take_what_was_seen),
    "registry's silence blamed on the record": (Engine, "_learn", _blame_the_record_for_the_registry),
    "end asked for before the claim alone": (Claiming, "look_again", _believe_the_end_of_before_the_claim),
    "nothing written of an empty partition": (
        assignment_module,
        "place",
        _begin_an_empty_partition_without_a_position,
    ),
    "partition added later passed over": (Claiming, "_met", _meet_nothing),
    "others wait for a partition without a leader": (Claiming, "claim", _claim_all_or_none),
    "batch not sealed": (PendingBatch, "seal", _seal_nothing),
    "first offset expected instead of the position": (PendingBatch, "seal", _expect_the_first_offset),
    "batch without a bound": (Rhythm, "is_full", _never_full),
    "fence removed": (Database, "fence_holds", _no_fence),
    "position not in the fence": (Database, "fence_holds", _epoch_alone),
    "stale epoch accepted": (Database, "fence_holds", _position_alone),
    "dedupe after COPY": (Database, "known", _look_for_no_twins),
    "keys of a lost server remembered": (SimSink, "_forget", _remember_over_a_failover),
    "topic made anew begun anywhere": (Database, "first_of_adopted", _begin_adopted_anywhere),
    "damaged record passed over": (Engine, "unreadable", _read_on_behind_damage),
    "flood not noticed": (DeadLetterBreaker, "_observe", _never_trip),
    "conflict dead-lettered against the policy": (Rejects, "__init__", _dead_letter_conflicts_all_the_same),
    "suspects decoded like all others": (engine_module, "fill", _decode_carelessly),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The bug is there while this lasts."""
    where, function, instead = PLANTED[name]
    with patch.object(where, function, instead):
        yield


__all__ = ["PLANTED", "planted"]
