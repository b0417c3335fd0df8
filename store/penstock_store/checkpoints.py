"""Named, durable positions of subscriptions: `async with store.checkpoint("mailer") as checkpoint`.

One owner at a time. A claim raises the checkpoint's epoch, and a save names it: whoever was superseded while
it was stopped, cut off or slow saves nothing any more. The lease only says when an owner that is silent may
be superseded; what is right never depends on a clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, Self

import structlog
from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_schemas._text import check_identifier, exact_json
from penstock_store._common import EVERYTHING
from penstock_store._patience import patiently
from penstock_store.checkpoint_errors import (
    CheckpointHeld,
    CheckpointLost,
    EventsExpired,
    InvalidCheckpoint,
    StateVersionDiffers,
)
from penstock_store.checkpoint_records import Batch, CheckpointRecords, CheckpointState, Claim, Follows, Move
from penstock_store.contract import QueryOptions
from penstock_store.errors import StoreError

__all__ = ["Checkpoint", "check_name", "owner_name", "state_json"]

_BIGINT: Final = 2**63 - 1
_LOOK_AGAIN: Final = 1.0  # seconds between two looks at a checkpoint that another holds
_LONGEST_FAULT: Final = 1_000  # characters
_PASSWORD: Final = re.compile(r"(://[^/\s:@]*):[^@\s]*@")
_UNCHANGED: Final = object()
_log = structlog.get_logger(__name__)


class Checkpoint:
    """Made by `EventStore.checkpoint`; claimed while its block runs. One task uses it at a time."""

    def __init__(self, reads: Follows, records: CheckpointRecords, claim: Claim, *, wait: float) -> None:
        check_name(claim.name)
        if not (_is_from(0.1, claim.lease) and claim.lease <= 86_400 and _is_from(0, wait)):
            raise InvalidCheckpoint(
                f"lease must be from 0.1 to 86,400 seconds and wait 0 or more; got {claim.lease!r}, {wait!r}"
            )
        self._reads = reads
        self._records = records
        self._terms = claim
        self._wait = wait
        self._kept: CheckpointState | None = None
        self._lost: CheckpointLost | None = None
        self._saved = 0  # what the owner said; renewals may have moved the position on since
        self._yielded = 0
        self._passed = 0
        self._renewing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """As it was given."""
        return self._terms.name

    @property
    def kept(self) -> CheckpointState:
        """What is kept, as this owner knows it."""
        if self._kept is None:
            raise self._not_claimed()
        return self._kept

    def _not_claimed(self) -> InvalidCheckpoint:
        return InvalidCheckpoint(f"the checkpoint {self.name!r} is not claimed: use it as `async with`")

    @property
    def sequence(self) -> int:
        """Everything up to here is done; 0 at the beginning."""
        return self.kept.sequence

    @property
    def state(self) -> JsonValue:
        """What was saved with the position; None where nothing was."""
        return self.kept.state

    async def __aenter__(self) -> Self:
        """Claim it: raises `CheckpointHeld`, `StateVersionDiffers`, `EventsExpired`."""
        self._lost = None
        self._kept = await self._claimed()
        self._saved = self._yielded = self._passed = self._kept.sequence
        try:
            await self._check_expired(self._kept.sequence)
        except BaseException:
            await self._records.release(self.name, self._kept.epoch, None)
            raise
        self._renewing = asyncio.create_task(self._renew_for_ever(), name=f"penstock-lease-{self.name}")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Give it back; the next owner need not wait. What an exception said is kept as `fault`."""
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        if isinstance(error, CheckpointLost) or self._lost is not None:
            return
        try:
            if error is None:
                await self._renew()  # what was looked at since the last event
            await self._records.release(self.name, self.kept.epoch, _fault(error))
        except StoreError as trouble:  # it is free when the lease ends
            _log.warning("checkpoint_not_released", name=self.name, cause=str(trouble))

    async def save(self, sequence: int, state: object = _UNCHANGED, *, state_version: int = 1) -> None:
        """Keep the position, and with it, in one step, a JSON state where one is given. The last one may be
        saved again: the position then stays past what the options left out.

        Raises `CheckpointLost` where another owner has taken over, `InvalidCheckpoint` for a step backwards.
        """
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not 0 <= sequence <= _BIGINT:
            raise InvalidCheckpoint(
                f"sequence must be that of an event, a whole number from 0; got {sequence!r}"
            )
        if self._renewing is None:  # not yet, or no longer
            raise self._not_claimed()
        text = None if state is _UNCHANGED else state_json(self.name, state)
        version = self.kept.state_version if text is None else state_version
        move = Move(
            name=self.name,
            epoch=self.kept.epoch,
            sequence=sequence,
            lease=self._terms.lease,
            state=text,
            state_version=version,
        )
        self.check_owned()
        target = self._not_behind(sequence)
        while not await self._records.save(replace(move, sequence=target)):
            found = await self._owned()
            before, target = target, self._not_behind(sequence)
            if target == before:  # else a renewal was quicker
                raise InvalidCheckpoint(
                    f"the checkpoint {self.name!r} stands at sequence {found.sequence:,} and cannot go back"
                    f" to {sequence:,}. Save in the order of the events; to read again, use another name"
                )
        self._saved = sequence
        self._kept = replace(self.kept, sequence=max(self.sequence, target))
        if text is not None:
            self._kept = replace(self.kept, state=json.loads(text), state_version=version)

    def _not_behind(self, sequence: int) -> int:
        """Further on where renewals moved past what the options left out; but a step back stays one."""
        return max(sequence, self.sequence) if sequence >= self._saved else sequence

    def moved(self, sequence: int) -> None:
        """The owner's own transaction moved the checkpoint."""
        self._saved = sequence
        self._kept = replace(self.kept, sequence=sequence)

    def began(self, sequence: int, state: JsonValue) -> None:
        """The owner's own transaction began anew at `sequence`, with this state."""
        self._kept = replace(self.kept, sequence=sequence, state=state)
        self._saved = self._yielded = self._passed = sequence

    async def stands_at(self, sequence: int) -> bool:
        """Whether a step to `sequence` whose answer was lost was done. Raises `CheckpointLost`."""
        found = await self._owned()
        self.moved(found.sequence)
        return found.sequence >= sequence

    def check_owned(self) -> None:
        """Raise `CheckpointLost` where it is known that another owner has taken over."""
        if self._lost is not None:
            raise self._lost

    def lost(self, found: CheckpointState | None) -> CheckpointLost:
        """Note that another owner has taken over."""
        self._lost = CheckpointLost(self.name, self.kept.epoch, found)
        return self._lost

    async def subscribe(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[RecordedEvent, None]:
        """`EventStore.subscribe` from where the checkpoint stands. Save each event, or the last of several.

        Beyond what `subscribe` does it raises `EventsExpired` instead of passing over what retention dropped,
        `CheckpointLost` once superseded, and moves the checkpoint past events that the options leave out.
        """
        async with aclosing(self.batches(options)) as found:
            async for batch in found:
                for event in batch.events:
                    yield event

    async def batches(self, options: QueryOptions = EVERYTHING) -> AsyncGenerator[Batch, None]:
        """The same in batches, none of them empty."""
        position = self.sequence
        self._yielded = self._passed = position  # what an earlier one passed over, other options may choose
        async with aclosing(self._reads.batches(position, options)) as found:
            async for batch in found:
                self.check_owned()
                await patiently(partial(self._check_expired, position))  # as the reading itself
                position = batch.passed
                if batch.events:
                    self._yielded = batch.events[-1].sequence
                    yield batch
                else:
                    self._passed = position

    async def _claimed(self) -> CheckpointState:
        end = time.monotonic() + self._wait
        while True:
            kept = await self._records.claim(self._terms)
            wanted = self._terms.state_version
            if wanted is not None and kept.state_version != wanted:
                raise StateVersionDiffers(self.name, kept=kept.state_version, wanted=wanted)
            if kept.owner == self._terms.owner:
                return kept
            left = end - time.monotonic()
            if left <= 0:
                raise CheckpointHeld(kept, self._wait)
            await asyncio.sleep(min(left, _LOOK_AGAIN, self._terms.lease))

    async def _check_expired(self, position: int) -> None:
        """What is dropped between reading and this look counts as not read: rather a false alarm."""
        expired = await self._records.expired_through()
        if expired > max(position, self.kept.accepted):
            what = f"the checkpoint {self.name!r}"
            raise EventsExpired(what, position=position, expired_through=expired)

    async def _renew_for_ever(self) -> None:
        while self._lost is None:
            await asyncio.sleep(self._terms.lease / 3)
            try:
                await self._renew()
            except CheckpointLost as error:
                _log.warning("checkpoint_lost", name=self.name, cause=str(error))
            except StoreError as error:
                _log.warning("lease_not_renewed", name=self.name, cause=str(error))

    async def _renew(self) -> None:
        """Where every event that was handed out is saved, the position moves past what was left out."""
        if self.sequence >= self._yielded:  # all of that is done, so known here before the answer comes
            self._kept = replace(self.kept, sequence=max(self.sequence, self._passed))
        move = Move(
            name=self.name,
            epoch=self.kept.epoch,
            sequence=self.sequence,
            lease=self._terms.lease,
            state_version=self.kept.state_version,
        )
        if not await self._records.save(move):
            await self._owned()

    async def _owned(self) -> CheckpointState:
        """What is kept now. Raises `CheckpointLost`."""
        found = await self._records.read(self.name)
        if found is None or found.epoch != self.kept.epoch:
            raise self.lost(found)
        return found


def check_name(name: object) -> None:
    """Raise `InvalidCheckpoint` for what no backend takes as a name."""
    if not isinstance(name, str):
        raise InvalidCheckpoint(f"the checkpoint's name must be text; got {name!r:.200}")
    try:
        check_identifier(name)
    except ValueError as error:
        raise InvalidCheckpoint(f"the checkpoint's name {error}") from error


def _is_from(least: float, seconds: object) -> bool:
    return isinstance(seconds, int | float) and seconds >= least  # not-a-number is not


def owner_name() -> str:
    """Who this is, for people, and different for each claim."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def state_json(name: str, state: object) -> bytes:
    """The state's JSON text. Raises `InvalidCheckpoint`."""
    try:
        return exact_json(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"the state of checkpoint {name!r} cannot be kept: it {error}") from error


def _fault(error: BaseException | None) -> str | None:
    """What stopped the owner; being cancelled or interrupted is no fault."""
    if not isinstance(error, Exception):
        return None
    said = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
    return _PASSWORD.sub(r"\1:***@", said.replace("\0", ""))[:_LONGEST_FAULT]
