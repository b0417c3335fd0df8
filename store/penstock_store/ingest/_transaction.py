"""One batch, one transaction: fence, sequences, probe, COPY, dead letters, ranges. Whatever it raises, the
caller rolls back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from penstock_store.ingest._key_filter import KeyFilter
from penstock_store.ingest._ledger import admit, finish, open_batch
from penstock_store.ingest._recent_keys import RecentKeys
from penstock_store.ingest._settle import Settlement, learn_keys
from penstock_store.ingest.batch import Batch
from penstock_store.ingest.decide import Known, counts
from penstock_store.ingest.model import Rejection, ReplayRun, WriteResult

__all__ = ["Reject", "RejectFailed", "Written", "write_batch"]

Reject = Callable[[Sequence[Rejection]], Awaitable[None]]
if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class RejectFailed(Exception):
    """What `reject` raised, kept apart from what PostgreSQL did."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Ready to commit. `stored`: the records that were copied, by index. `repeats`: PostgreSQL had to say
    that some keys were stored before, so the next batch had better look first.
    """

    result: WriteResult
    stored: Sequence[int]
    roll_due: bool
    repeats: bool


async def write_batch(
    connection: Connection,
    batch: Batch,
    *,
    window: timedelta,
    key_filter: KeyFilter,
    recent: RecentKeys,
    look_first: bool,
    chunk_rows: int,
    reject: Reject,
    replay: ReplayRun | None = None,
    late: bool = False,
) -> Written:
    """Everything but BEGIN and COMMIT. Raises FenceLost, NoCurrentPartition, Unsettled and asyncpg's
    errors.
    """
    opened = await open_batch(connection, batch.parts, keys=batch.keys, window=window, late=late)
    if replay is not None:
        await admit(connection, batch.parts, replay)
    known = Known(keys=recent.known(opened.leaf, batch))
    remembered = len(known.keys)
    if opened.closed and batch.rows:
        loaded, suspects = await key_filter.narrow(connection, opened.printed, batch.keys)
        for leaf in opened.closed:
            await learn_keys(connection, leaf, suspects if leaf in loaded else batch.keys, known)
    if look_first and batch.rows:
        await learn_keys(connection, opened.leaf, batch.keys, known)
    decision = await Settlement(connection, opened, batch, chunk_rows).settle(known)
    if decision.rejections:
        try:
            await reject(decision.rejections)
        except Exception as error:
            raise RejectFailed(error) from error
    found = counts(batch, decision)
    await finish(connection, batch.parts, found, opened.leaf, replay=replay)
    first = opened.first_sequence or 0
    stored = decision.store
    result = WriteResult(
        counts=found,
        partition=opened.leaf,
        first_sequence=first + stored[0] if stored else None,
        last_sequence=first + stored[-1] if stored else None,
    )
    repeats = len(known.keys) > remembered
    return Written(result=result, stored=stored, roll_due=opened.roll_due, repeats=repeats)
