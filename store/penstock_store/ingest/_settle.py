"""Getting a batch's rows into the current partition: optimistically, then by what each refusal teaches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

import asyncpg

from penstock_store.appending import Key
from penstock_store.errors import SinkBroken
from penstock_store.ingest._ledger import Opened
from penstock_store.ingest._sqlstate import is_row_fault, violated_index
from penstock_store.ingest.batch import Batch
from penstock_store.ingest.decide import Decision, Fault, Known, decide
from penstock_store.ingest.model import FEWEST_BAD
from penstock_store.ingest.rows import COLUMNS, HEADER, TRAILER, copy_chunk

__all__ = ["Settlement", "Unsettled", "learn_keys"]

_SAMPLE = 100  # rows

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Unsettled(Exception):
    """The table changed under the batch without a trace to decide by: begin again."""


async def learn_keys(connection: Connection, leaf: str, wanted: Iterable[Key], known: Known) -> None:
    """Which of the keys a partition holds. The session's planner settings make it index probes in key
    order, one scan a tenant: two thirds of what a join with the keys costs.
    """
    by_tenant: dict[str, list[str]] = {}
    for tenant_id, key in wanted:
        by_tenant.setdefault(tenant_id, []).append(key)
    for tenant_id, keys in by_tenant.items():
        rows = await connection.fetch(
            f"""
            SELECT idempotency_key, content_hash FROM penstock."{leaf}"
            WHERE tenant_id = $1 AND idempotency_key = ANY ($2::text[])
            """,
            tenant_id,
            keys,
        )
        for key, content_hash in rows:
            known.keys.setdefault((tenant_id, key), content_hash)


async def _learn_event_ids(connection: Connection, leaf: str, batch: Batch, known: Known) -> None:
    rows = await connection.fetch(
        f"""
        SELECT uuid_send(e.event_id) AS event_id
        FROM unnest($1::bytea[]) AS k (event_id)
        JOIN penstock."{leaf}" e ON e.event_id = encode(k.event_id, 'hex')::uuid
        """,
        batch.event_ids,
    )
    known.event_ids.update(row["event_id"] for row in rows)


class Settlement:
    """Gets a batch into the current leaf: optimistically, then by what each refusal teaches."""

    def __init__(self, connection: Connection, opened: Opened, batch: Batch, chunk_rows: int) -> None:
        self._connection = connection
        self._opened = opened
        self._batch = batch
        self._chunk_rows = chunk_rows

    async def settle(self, known: Known) -> Decision:
        """Copy what is to be stored. Every round learns something, else it raises Unsettled."""
        decision = decide(self._batch, known)
        if decision.store:
            await self._connection.execute("SAVEPOINT batch")
        while decision.store:
            learned = len(known)
            try:
                await self._copy(decision.store)
                break
            except asyncpg.UniqueViolationError as error:
                self._check(error)
                await self._connection.execute("ROLLBACK TO batch")
            except asyncpg.PostgresError as error:
                if not is_row_fault(error):
                    raise
                await self._connection.execute("ROLLBACK TO batch")
                await self._isolate(decision.store, known.faults)
            if len(known) == learned:  # a unique index refused them, and hid a refused row where there is one
                await learn_keys(self._connection, self._opened.leaf, self._batch.keys, known)
                await _learn_event_ids(self._connection, self._opened.leaf, self._batch, known)
            if len(known) == learned:
                raise Unsettled
            decision = decide(self._batch, known)
        return decision

    def _check(self, error: asyncpg.UniqueViolationError) -> None:
        index = violated_index(error, self._opened.leaf)
        if index is None:
            raise SinkBroken(
                f"a unique index that is not the store's refuses events: {error.constraint_name} on "
                f"penstock.{self._opened.leaf}. Drop it; nothing was committed",
                sqlstate="23505",
            ) from error
        if index == "sequence":
            raise SinkBroken(
                "a sequence was given out twice: penstock.event_sequence stands behind the events, "
                "as after a partial restore. Set it to the highest sequence in penstock.events",
                sqlstate="23505",
            ) from error

    async def _isolate(self, indexes: Sequence[int], faults: dict[int, Fault]) -> None:
        """Adds the rows that PostgreSQL refuses to `faults`, by halving. Leaves nothing in the table.

        Raises SinkBroken where it refuses most of the batch: no row is at fault then.
        """
        refused = await self._refusal(indexes)
        if refused is None:
            return
        if len(indexes) > 1:
            middle = len(indexes) // 2
            await self._isolate(indexes[:middle], faults)
            await self._isolate(indexes[middle:], faults)
            return
        faults[indexes[0]] = refused
        if len(faults) == FEWEST_BAD and await self._refuses_most():
            raise SinkBroken(
                f"PostgreSQL refuses most of the {len(self._batch)} rows of a batch, so the fault is hardly "
                f"theirs: {refused.message} ({refused.sqlstate}). Look for a constraint or trigger on "
                "penstock.events that was added; nothing was committed or dead-lettered",
                sqlstate=refused.sqlstate,
            )

    async def _refusal(self, indexes: Sequence[int]) -> Fault | None:
        """Why PostgreSQL takes not all of these rows, if so. Leaves nothing in the table."""
        refused: Fault | None = None
        try:
            await self._copy(indexes)
        except asyncpg.UniqueViolationError as error:
            self._check(error)  # else the batch's own COPY meets it again, and knows what to do
        except asyncpg.PostgresError as error:
            if not is_row_fault(error):
                raise
            refused = Fault(str(error).splitlines()[0], error.sqlstate or "")
        await self._connection.execute("ROLLBACK TO batch")
        return refused

    async def _refuses_most(self) -> bool:
        """Judged by rows from all over the batch: to find out about each of 24,000 takes 40 s, in which
        readers and the roll of the partition wait.
        """
        sample = range(0, len(self._batch), max(1, len(self._batch) // _SAMPLE))
        refused = [row for row in sample if await self._refusal([row]) is not None]
        return len(refused) > len(sample) / 2

    async def _copy(self, indexes: Sequence[int]) -> None:
        await self._connection.copy_to_table(
            self._opened.leaf,
            schema_name="penstock",
            columns=COLUMNS,
            source=self._chunks(indexes),
            format="binary",
        )

    async def _chunks(self, indexes: Sequence[int]) -> AsyncIterator[bytes]:
        """Each record keeps the sequence of its place in the batch, so that rejections change no order."""
        rows, first, stamp = self._batch.rows, self._opened.first_sequence or 0, self._opened.recorded_us
        yield HEADER
        for start in range(0, len(indexes), self._chunk_rows):
            chosen = indexes[start : start + self._chunk_rows]
            if isinstance(chosen, range):  # nothing is left out, as nearly always
                sequences = range(first + chosen.start, first + chosen.stop)
                yield copy_chunk(rows[chosen.start : chosen.stop], sequences, stamp)
            else:
                yield copy_chunk([rows[i] for i in chosen], [first + i for i in chosen], stamp)
        yield TRAILER
