"""The sink: what a worker writes through. One transaction a batch, on one connection that only writes
batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import asyncpg
import structlog

from penstock_store import partitions
from penstock_store._upkeep import Upkeep
from penstock_store.driver import DRIVER_ERRORS
from penstock_store.errors import FenceLost, PartitionError, SinkBroken, SinkUnavailable
from penstock_store.ingest import _claims, _ledger
from penstock_store.ingest._key_filter import KeyFilter
from penstock_store.ingest._ledger import NoCurrentPartition
from penstock_store.ingest._recent_keys import RecentKeys
from penstock_store.ingest._sessions import control_link, writer_link
from penstock_store.ingest._settle import Unsettled
from penstock_store.ingest._sqlstate import is_retryable, sink_error
from penstock_store.ingest._transaction import Reject, RejectFailed, write_batch
from penstock_store.ingest.batch import Batch, BatchPart
from penstock_store.ingest.model import Claim, Outcome, PartitionRef, ReplayRun, WriteResult
from penstock_store.ingest.settings import SinkSettings

__all__ = ["PostgresSink"]

_Result = TypeVar("_Result")
if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
_ROLLBACK_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class PostgresSink:
    """Writes batches with exactly-once effect. Writes queue behind each other; nothing here is thread-safe.

    Every call may raise SinkUnavailable (retry) or SinkBroken (stop) and has a deadline; a connection that
    misses it is ended and the next call makes another.
    """

    def __init__(self, settings: SinkSettings) -> None:
        self._settings = settings
        self._writer = writer_link(settings)
        self._control = control_link(settings)
        self._writing = asyncio.Lock()
        self._controlling = asyncio.Lock()
        self._held: dict[PartitionRef, Claim] = {}
        self._look_first = False
        self._key_filter = KeyFilter()
        self._recent = RecentKeys()
        self._replay: ReplayRun | None = None
        self._upkeep = Upkeep(self._publish, self._roll)

    async def open(self) -> None:
        """Connect, so that a wrong address, login or schema shows at the start."""
        async with self._writing:
            await self._ready()

    async def close(self) -> None:
        """End both connections, in bounded time."""
        await self._upkeep.settle(self._settings.call_timeout)
        await self._writer.close()
        await self._control.close()

    async def claim(
        self, refs: Iterable[PartitionRef], met: Sequence[PartitionRef] = ()
    ) -> dict[PartitionRef, Claim]:
        """Become the owner of partitions, all or none; batches under older claims are refused from now on.

        `met`: every partition that the topics have, so that one which they get later is known as such: its
        position is 0, where that of one which came with its topic is None.

        An owner that is in the middle of a batch gets `claim_patience` seconds, then its backend is ended.
        Raises TopicRecreated with the partitions concerned.
        """
        wanted = list(dict.fromkeys(refs))
        if not wanted:
            return {}
        if not self._writer.usable:
            async with self._writing:
                await self._ready()
        owner = self._owner()
        claims = await self._on_control(
            lambda connection: _claims.claim(
                connection, self._settings.group_id, wanted, owner, self._settings.claim_patience, met
            ),
            "a claim",
        )
        self._held.update(claims)
        if claims and owner != self._owner():  # the writer connected anew meanwhile, without knowing of these
            await self._rebind(list(claims.values()))
        missing = [ref for ref in wanted if ref not in claims]
        if missing:
            raise FenceLost(missing)
        return claims

    async def release(self, claims: Iterable[Claim]) -> None:
        """Give partitions up in good order, which also sets their attempts back. A claim lost before is no
        error.
        """
        given = list(claims)
        for claim in given:
            self._held.pop(claim.ref, None)
        if given:
            await self._on_control(lambda connection: _claims.release(connection, given), "a release")

    async def adopt(self, ref: PartitionRef) -> None:
        """Accept that a topic was recreated: go on at the new one's offset 0. Claim the partition afterwards.

        Raises FenceLost where the stored topic id is this one, or nothing is stored.
        """
        await self._on_control(
            lambda connection: _claims.adopt(connection, self._settings.group_id, ref), "an adoption"
        )

    async def write(self, batch: Batch, *, reject: Reject) -> WriteResult:
        """Commit a batch with the offsets of all of its parts, or nothing of it.

        `reject` is awaited inside the transaction with the conflicts and refused rows (if any); what it
        raises rolls the batch back and passes through. It may be called again for the same records when the
        batch is retried. Raises FenceLost, SinkUnavailable (retry the same batch; also after a COMMIT whose
        answer was lost, see `WriteResult.already_committed`) and SinkBroken.
        """
        if not batch.parts:
            return WriteResult(counts=(), partition=None)
        late = False
        async with self._writing:
            for attempt in range(self._settings.attempts):
                try:
                    return await self._attempt(batch, reject, late)
                except RejectFailed as failure:
                    raise failure.error from None
                except NoCurrentPartition as found:
                    late = not await self._upkeep.make_current(found.ended)
                except Unsettled:
                    self._look_first = True
                except DRIVER_ERRORS as error:
                    if not is_retryable(error) or attempt + 1 == self._settings.attempts:
                        raise sink_error(error, "a batch") from error
        raise SinkUnavailable(
            f"a batch met other transactions' changes {self._settings.attempts} times. "
            "Nothing was committed; retry"
        )

    async def skip(self, claim: Claim, first: int, next_offset: int, reason: str) -> Claim:
        """Accept that the records [first, next_offset) are lost: account for them as such and move the
        position.

        `first` is at or after the claim's position; with `next_offset` at `first` too nothing is lost, and
        the position is written down. Returns the claim with its new position. Raises FenceLost.
        """
        part = BatchPart(claim=claim, expected=claim.position, first_offset=first, next_offset=next_offset)

        async def work(connection: _Connection) -> None:
            with suppress(NoCurrentPartition):
                await _ledger.open_batch(connection, [part], keys=[], window=self._settings.dedupe_window)
            if part.start < next_offset:
                nothing = [dict.fromkeys(Outcome, 0)]
                await _ledger.finish(connection, [part], nothing, None, lost=[next_offset - first])

        async with self._writing:
            await self._ready()
            try:
                await self._in_transaction(work, "a skip", self._settings.call_timeout)
            except DRIVER_ERRORS as error:
                raise sink_error(error, "a skip") from error
        if first < next_offset:
            _log.warning(
                "offsets_skipped", **claim.ref._asdict(), first=first, next_offset=next_offset, reason=reason
            )
        self._held[claim.ref] = replace(claim, position=next_offset, leader_epoch=None)
        return self._held[claim.ref]

    async def _attempt(self, batch: Batch, reject: Reject, late: bool) -> WriteResult:
        await self._ready()
        work = partial(
            write_batch,
            batch=batch,
            window=self._settings.dedupe_window,
            key_filter=self._key_filter,
            recent=self._recent,
            look_first=self._look_first,
            chunk_rows=self._settings.chunk_rows,
            reject=reject,
            replay=self._replay,
            late=late,
        )
        try:
            written = await self._in_transaction(work, "a batch", self._settings.write_timeout)
        except FenceLost as lost:
            if (earlier := await self._recover(batch)) is not None:
                return earlier
            self._recent = RecentKeys()  # the position may have gone back, and what it stood for with it
            for ref in lost.refs:
                self._held.pop(ref, None)
            raise
        self._look_first = written.repeats
        if written.result.partition is not None:
            self._recent.stored(written.result.partition, batch, written.stored)
        self._upkeep.ask(roll_due=written.roll_due)
        return written.result

    async def _in_transaction(
        self, work: Callable[[_Connection], Awaitable[_Result]], doing: str, seconds: float
    ) -> _Result:
        connection = self._writer.connection

        async def run() -> _Result:
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            result = await work(connection)
            # In a transaction that failed unnoticed, COMMIT rolls back and only its tag says so.
            if (tag := await connection.execute("COMMIT")) != "COMMIT":
                raise SinkUnavailable(f"PostgreSQL answered {tag} to the COMMIT of {doing}. Retry")
            return result

        try:
            return await self._writer.bounded(run(), seconds, doing)
        except Exception as error:
            await self._roll_back(error)
            raise

    async def _roll_back(self, error: Exception) -> None:
        if self._writer.usable:
            try:
                await self._writer.bounded(
                    self._writer.connection.execute("ROLLBACK"), _ROLLBACK_SECONDS, "a rollback"
                )
            except (*DRIVER_ERRORS, SinkUnavailable):
                self._writer.terminate()
        if isinstance(error, asyncpg.OperatorInterventionError):
            # Cancelled by an administrator, perhaps inside of a function that holds a session lock.
            self._writer.terminate()
        # The numbers drawn will never be used; a replica's readers wait for them until the mark moves.
        self._upkeep.ask()

    async def _recover(self, batch: Batch) -> WriteResult | None:
        try:
            return await self._writer.bounded(
                _ledger.recover(self._writer.connection, batch, self._replay),
                self._settings.call_timeout,
                "a recovery",
            )
        except DRIVER_ERRORS as error:
            self._writer.terminate()
            raise sink_error(error, "a recovery") from error

    async def _ready(self) -> None:
        """Connect the writer, and tell the offsets which backend it is now."""
        if self._writer.usable:
            return
        await self._writer.connect()
        self._key_filter = KeyFilter()  # another server may answer now, restored to another day
        self._recent = RecentKeys()
        held = list(self._held.values())
        if not held:
            return
        try:
            await self._rebind(held)
        except BaseException:
            self._writer.terminate()
            raise

    async def _rebind(self, claims: Sequence[Claim]) -> None:
        await self._on_control(
            lambda connection: _claims.rebind(
                connection, claims, self._owner(), self._settings.claim_patience
            ),
            "a renewal of claims",
        )

    def _owner(self) -> _claims.Owner:
        return _claims.Owner(self._writer.pid, self._writer.backend_start, self._settings.worker_name)

    async def _publish(self) -> None:
        await self._on_control(lambda connection: connection.fetchval("SELECT penstock.publish()"), "a mark")

    async def _roll(self) -> None:
        try:
            await self._on_control(partitions.make_current, "a roll")
        except PartitionError as error:
            kind = SinkUnavailable if error.retryable else SinkBroken
            raise kind(str(error), sqlstate=error.sqlstate) from error

    async def _on_control(self, work: Callable[[_Connection], Awaitable[_Result]], doing: str) -> _Result:
        async with self._controlling:
            if not self._control.usable:
                await self._control.connect()
            seconds = self._settings.call_timeout + self._settings.claim_patience

            async def run() -> _Result:
                return await work(self._control.connection)

            try:
                return await self._control.bounded(run(), seconds, doing)
            except DRIVER_ERRORS as error:
                self._control.terminate()
                raise sink_error(error, doing) from error
