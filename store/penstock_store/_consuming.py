"""The consumer's half of an event store, the same on every backend: checkpoints and folded states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_store._common import EVERYTHING
from penstock_store.checkpoint_records import Batch, CheckpointRecords, CheckpointState, Claim
from penstock_store.checkpoints import Checkpoint, check_name, owner_name
from penstock_store.contract import QueryOptions, exactly
from penstock_store.folding import Fold, Loaded, Subject, load_state
from penstock_store.store_contract import Snapshot
from penstock_store.store_errors import NotSupported

__all__ = ["Consuming"]

_State = TypeVar("_State")


class Consuming(ABC):
    """Over `subscribe`, `stream` and snapshots; `checkpoint_records` is the backend's."""

    def checkpoint_records(self) -> CheckpointRecords:
        """How this backend keeps checkpoints. Raises `NotSupported` where it does not."""
        raise NotSupported(
            f"{type(self).__name__} keeps no checkpoints. Keep the sequence of the last event yourself, and"
            " subscribe(after=…); or choose another backend"
        )

    async def batches(
        self, after: int = 0, options: QueryOptions = EVERYTHING
    ) -> AsyncGenerator[Batch, None]:
        """`subscribe` in batches, as they were read; an empty one says that there was no more."""
        async with aclosing(self.subscribe(after, options)) as events:
            async for event in events:
                yield Batch((event,), event.sequence)

    @abstractmethod
    def subscribe(
        self, after: int = 0, options: QueryOptions = ...
    ) -> AsyncGenerator[RecordedEvent, None]: ...

    @abstractmethod
    def stream(self, options: QueryOptions = ...) -> AsyncGenerator[RecordedEvent, None]: ...

    @abstractmethod
    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None: ...

    @abstractmethod
    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int | None = None, state_version: int = 1
    ) -> bool: ...

    def checkpoint(
        self,
        name: str,
        *,
        state_version: int | None = 1,
        lease: float = 30.0,
        wait: float = 60.0,
        take: bool = False,
        accept_loss: bool = False,
    ) -> Checkpoint:
        """See `EventStore.checkpoint`."""
        claim = Claim(
            name=name,
            owner=owner_name(),
            lease=lease,
            take=take,
            accept_loss=accept_loss,
            state_version=state_version,
        )
        return Checkpoint(self, self.checkpoint_records(), claim, wait=wait)

    async def get_checkpoint(self, name: str) -> CheckpointState | None:
        """See `EventStore.get_checkpoint`."""
        check_name(name)
        return await self.checkpoint_records().read(name)

    async def get_checkpoints(self) -> list[CheckpointState]:
        """See `EventStore.get_checkpoints`."""
        return await self.checkpoint_records().all()

    async def _expired_through(self) -> int:
        try:
            return await self.checkpoint_records().expired_through()
        except NotSupported:
            return 0

    async def load(
        self,
        entity_id: str,
        fold: Fold[_State],
        initial: _State,
        *,
        tenant_id: str = "default",
        name: str | None = None,
        state_version: int = 1,
        snapshot_every: int | None = None,
        accept_loss: bool = False,
    ) -> Loaded[_State]:
        """See `EventStore.load`."""
        return await load_state(
            self,
            QueryOptions(
                entity_id=exactly("entity_id", entity_id), tenant_id=exactly("tenant_id", tenant_id)
            ),
            fold,
            initial,
            subject=Subject(
                ("entity", tenant_id, entity_id), f"entity {entity_id!r} of tenant {tenant_id!r}"
            ),
            name=name,
            state_version=state_version,
            snapshot_every=snapshot_every,
            expired_through=self._expired_through,
            accept_loss=accept_loss,
        )

    async def load_correlation(
        self,
        correlation_id: str,
        fold: Fold[_State],
        initial: _State,
        *,
        name: str | None = None,
        state_version: int = 1,
        snapshot_every: int | None = None,
        accept_loss: bool = False,
    ) -> Loaded[_State]:
        """See `EventStore.load_correlation`."""
        return await load_state(
            self,
            QueryOptions(correlation_id=exactly("correlation_id", correlation_id)),
            fold,
            initial,
            subject=Subject(("correlation", correlation_id), f"correlation {correlation_id!r}"),
            name=name,
            state_version=state_version,
            snapshot_every=snapshot_every,
            expired_through=self._expired_through,
            accept_loss=accept_loss,
        )
