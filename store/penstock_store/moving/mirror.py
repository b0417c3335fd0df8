"""`MirroredStore`: two stores behind one, while their events move from the old one to the new one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog

from penstock_schemas import Event
from penstock_store.appending import AppendResult
from penstock_store.moving._delegated import Delegated
from penstock_store.moving._standing import last_event
from penstock_store.moving._switched import check_markable, mark_switched, was_switched
from penstock_store.moving.copying import Copier
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_contract import EventStore, Health

__all__ = ["MirrorStatus", "MirroredStore"]

_BATCH: Final = 1_000
_SOON: Final = 0.02  # seconds: what was appended is not readable yet, as an earlier append still commits
_LONGEST_PAUSE: Final = 30.0  # seconds until a new store that fails is tried again

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorStatus:
    """Of this object, since it was made."""

    level: bool  # the new store gets each event at once; False: it failed, or is left to a copy
    mirrored: int  # events that this object brought over
    late: int  # appends that returned before the new store had their events
    failures: int  # of the new store, each tried again
    last_error: str | None
    switched: bool


class MirroredStore(Delegated):
    """An `EventStore` that keeps a new store level with an old one.

    The old one is the truth: reads, versions and results are its own, and an append that it stored succeeds
    whatever becomes of the new one. The new one gets the same events from the old one, in the old one's
    order, as by `copy_events`: at once while it is level, and where that fails or takes longer than
    `patience` seconds, later. So nothing is lost, doubled or swapped, by whatever number of processes. A new
    store that is more than `most_behind` sequences behind is left to a copy, and followed from then on: make
    it a few of the copy's batches, as a copy ends less than a batch behind those who write meanwhile.
    """

    def __init__(
        self,
        old: EventStore,
        new: EventStore,
        *,
        patience: float = 1.0,
        most_behind: int = 10_000,
        poll_interval: float = 1.0,
    ) -> None:
        super().__init__(old)
        self._old, self._new = old, new
        self._patience, self._most_behind, self._poll_interval = patience, most_behind, poll_interval
        self._copier = Copier(old, new, batch_size=_BATCH)
        self._copying = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._moved = asyncio.Condition()
        self._open = asyncio.Event()  # cleared while a switch waits for appends under way
        self._open.set()
        self._switching = asyncio.Lock()
        self._appending = 0
        self._level = False
        self._late = self._failures = 0
        self._last_error: str | None = None

    def mirror_status(self) -> MirrorStatus:
        """How the new store does."""
        return MirrorStatus(
            level=self._level,
            mirrored=self._copier.report.stored,
            late=self._late,
            failures=self._failures,
            last_error=self._last_error,
            switched=self._truth is self._new,
        )

    async def initialize(self) -> None:
        """The old store must open; the new one is tried again until it does, or must open, too, where an
        earlier process switched to it.
        """
        await self._old.initialize()
        if self._truth is self._old and await was_switched(self._old, self._new):
            await self._new.initialize()
            self._truth = self._new
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="penstock-mirror")

    async def close(self) -> None:
        """Bring the new store level, within a few seconds, and close both."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if self._level and self._truth is self._old:
                with suppress(TimeoutError):
                    async with asyncio.timeout(5 * self._patience):
                        await self._bring()
        await self._copier.close()
        try:
            await self._old.close()
        finally:
            await self._new.close()

    async def switch(self, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109  part of the contract
        """From now on the new store is the truth; appends wait until it is level, nothing fails or is lost.

        For one process that writes; where several do, end them all before the first one writes to the new
        store. It outlives the process: with the same two stores the next one begins with the new store.
        Raises `StoreUnavailable` where the new one is not level in `timeout` seconds, `NotSupported` where
        the old one keeps no checkpoints, or another `StoreError`: then the old one goes on being the truth.
        """
        check_markable(self._old)
        try:
            async with asyncio.timeout(timeout), self._switching:
                if self._truth is self._old:
                    await self._switch()
        except TimeoutError:
            raise StoreUnavailable(
                f"The new store was not level within {timeout:g} s"
                f" ({self._last_error or 'it is still being filled'}). Nothing was switched: copy first, then"
                " try again."
            ) from None

    async def _switch(self) -> None:
        self._open.clear()
        try:
            async with self._moved:
                await self._moved.wait_for(lambda: not self._appending)
            while not await self._bring():  # noqa: ASYNC110  nobody tells when a server is back
                await asyncio.sleep(_SOON)
            await self._copier.finish()
            await mark_switched(self._old, self._new, self._copier.report.position)
            self._truth = self._new
            _log.info("switched_to_new_store", sequence=self._copier.report.position)
        finally:
            self._open.set()

    async def append(self, event: Event, *, expected_version: int | None = None) -> AppendResult:
        """See `EventStore.append`."""
        return (await self.append_batch([event], expected_version=expected_version))[0]

    async def append_batch(
        self, events: Sequence[Event], *, expected_version: int | None = None
    ) -> list[AppendResult]:
        """See `EventStore.append_batch`."""
        while not self._open.is_set():  # another switch may have begun before this task runs again
            await self._open.wait()
        self._appending += 1
        try:
            results = await self._truth.append_batch(events, expected_version=expected_version)
            if self._truth is self._old and any(result.stored for result in results):
                await self._await_mirror(max(result.sequence for result in results))
            return results
        finally:
            self._appending -= 1
            async with self._moved:
                self._moved.notify_all()

    async def _await_mirror(self, sequence: int) -> None:
        self._woken.set()
        if self._level:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience), self._moved:
                    await self._moved.wait_for(
                        lambda: self._copier.report.position >= sequence or not self._level
                    )
        self._late += self._copier.report.position < sequence

    async def _follow(self) -> None:
        pause = self._poll_interval
        while self._truth is self._old:
            self._woken.clear()  # before looking: what is appended meanwhile wakes us again
            found = await self._bring()
            pause = min(2 * pause, _LONGEST_PAUSE) if found is None else self._poll_interval
            if not self._level:  # a new store that fails, or is being filled, is not asked at each append
                await asyncio.sleep(pause)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if found else _SOON):
                    await self._woken.wait()

    async def _bring(self) -> bool | None:
        """Whether the new store holds everything now; None where it, or reading the old one, failed."""
        async with self._copying:
            try:
                found = await self._bring_level()
            except Exception as error:  # whatever becomes of the new store, the old one goes on
                if self._level or self._last_error is None:
                    _log.warning("mirror_behind", cause=str(error), kind=type(error).__name__)
                self._level = False
                self._failures += 1
                self._last_error = str(error) or type(error).__name__
                found = None
            async with self._moved:
                self._moved.notify_all()
            return found

    async def _bring_level(self) -> bool:
        await self._new.initialize()
        newest = await last_event(self._old)
        ahead = newest.sequence if newest is not None else 0
        at = await self._copier.locate()
        if ahead - at.after > self._most_behind:
            self._copier.forget()  # a copy moves it on
            self._level = False
            return False
        await self._copier.advance()
        self._level = True
        return self._copier.report.position >= ahead

    async def health_check(self) -> Health:
        """The truth's; `detail` also says where the new store is behind."""
        started = time.perf_counter()
        health = await self._truth.health_check()
        if not health.ready or self._level or self._truth is self._new:
            return health
        behind = f"ok; the new store is behind: {self._last_error or 'it is being filled'}"
        return Health(live=True, ready=True, detail=behind, latency_seconds=time.perf_counter() - started)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()
