"""Appends to PostgreSQL: one round trip, `penstock.append_events`, which is one transaction."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from penstock_store._recorded import instant
from penstock_store.appending import AppendOutcome, AppendResult, Prepared
from penstock_store.postgresql._pool import Pool
from penstock_store.read_errors import ReadError, StoreUnavailable
from penstock_store.store_errors import WrongExpectedVersion

__all__ = ["Appender"]

_APPEND: Final = f"SELECT * FROM penstock.append_events({', '.join(f'${n}' for n in range(1, 17))})"
# 23505: another append of the same key or id committed meanwhile, the next look finds it; 40: deadlock or
# serialisation; 42P01: a partition that was looked at was dropped a moment ago. None of them stored anything.
_PASSING: Final = ("23505", "40001", "40P01", "42P01")
_ATTEMPTS: Final = 8  # each one but the last met another append of the same keys, or a deadlock
_PAUSE: Final = 0.02  # seconds, doubled each time, drawn at random up to it


class Appender:
    """Append, and what keeps partitions going. An append may be called again: keys decide what is new. But
    the answer tells who stored it, so that once sent it is not repeated here.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def append(
        self, prepared: Prepared, make_current: Callable[[bool], Awaitable[bool]]
    ) -> tuple[list[AppendResult], bool]:
        """One result per `prepared.fields`, and whether a roll is due. See `Upkeep.make_current`."""
        arguments, late = _arguments(prepared), False
        for attempt in range(_ATTEMPTS):
            try:
                row = (await self._pool.fetch(_APPEND, (*arguments, late), repeatable=False))[0]
            except ReadError as error:
                if error.sqlstate not in _PASSING:
                    raise
                if attempt == _ATTEMPTS - 1:
                    raise StoreUnavailable(
                        f"{error} Nothing was stored: append again.", sqlstate=error.sqlstate
                    ) from error
            else:
                if row["leaf"] is not None:
                    return _results(prepared, row), bool(row["roll_due"])
                late = not await make_current(bool(row["roll_due"]))
            await asyncio.sleep(random.uniform(0, _PAUSE * 2**attempt))  # noqa: S311  no secret
        raise StoreUnavailable(
            "no partition of penstock.events became current in time. Nothing was stored: append again, and"
            " look at `penstock doctor` where it stays so"
        )

    async def make_current(self) -> None:
        """A current partition and the next one; creation and roll commit apart."""
        await self._pool.fetch("SELECT penstock.ensure_partitions(1)")
        await self._pool.fetch("SELECT penstock.roll()")

    async def publish(self) -> None:
        """The mark that replicas read and live readers are woken by."""
        await self._pool.fetch("SELECT penstock.publish()")


def _arguments(prepared: Prepared) -> Sequence[Any]:
    (event_ids, types, occurred, actor_types, actor_ids, entities, tenants, correlations, causations,
     versions, keys, hashes, payloads, metadata) = zip(*prepared.fields, strict=True)  # fmt: skip
    return (
        [UUID(bytes=one) for one in event_ids],
        types,
        [instant(one) for one in occurred],
        actor_types,
        actor_ids,
        entities,
        tenants,
        correlations,
        causations,
        versions,
        keys,
        hashes,
        [one.decode() for one in payloads],
        [one.decode() for one in metadata],
        prepared.expected_version,
    )


def _results(prepared: Prepared, row: asyncpg.Record) -> list[AppendResult]:
    if row["conflicts"]:
        raise prepared.conflict([item - 1 for item in row["conflicts"]], "key_conflict")
    if row["taken"]:
        raise prepared.conflict([item - 1 for item in row["taken"]], "event_id_taken")
    known = {
        item - 1: AppendResult(
            outcome=AppendOutcome.DUPLICATE,
            event_id=UUID(int=event_id.int),
            sequence=sequence,
            recorded_at=recorded_at,
        )
        for item, event_id, sequence, recorded_at in zip(
            row["known"], row["known_ids"], row["known_sequences"], row["known_at"], strict=True
        )
    }
    if row["first_sequence"] is None and len(known) < len(prepared.fields):
        assert prepared.expected_version is not None  # noqa: S101  nothing else stores nothing
        raise WrongExpectedVersion(
            *prepared.entity, expected=prepared.expected_version, actual=row["entity_version"]
        )
    results, sequence = [], row["first_sequence"]
    for place, fields in enumerate(prepared.fields):
        result = known.get(place)
        if result is None:
            result = AppendResult(
                outcome=AppendOutcome.STORED,
                event_id=UUID(bytes=fields.event_id),
                sequence=sequence,
                recorded_at=row["recorded_at"],
            )
            sequence += 1
        results.append(result)
    return results
