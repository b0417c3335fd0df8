"""Where projections keep tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import JsonValue

from penstock_store._patience import patiently
from penstock_store.checkpoint_errors import TablesNotMade
from penstock_store.checkpoints import Checkpoint
from penstock_store.errors import StoreError
from penstock_store.projections.definition import Projection, TableProjection
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import NotSupported

__all__ = ["TableSession", "made", "tables_of"]


class TableSession(Protocol):
    """A backend's transactions for the tables of projections."""

    async def close(self) -> None: ...

    async def exists(self, schema: str) -> bool: ...

    async def make(
        self,
        checkpoint: Checkpoint,
        schema: str,
        work: Any,
        readers: Any,
        *,
        sequence: int,
        state: JsonValue = None,
    ) -> None: ...

    async def apply(
        self, checkpoint: Checkpoint, schema: str, work: Any, *, sequence: int, lease: float
    ) -> None: ...

    async def swap(
        self, live: Checkpoint, shadow: Checkpoint, schema: str, built: str, version: int
    ) -> None: ...


@runtime_checkable
class _KeepsTables(Protocol):
    def tables(self) -> TableSession: ...


def tables_of(store: EventStore, projection: Projection) -> TableSession:
    """A session for the projection's tables. Raises `NotSupported`."""
    if not isinstance(store, _KeepsTables):
        raise NotSupported(
            f"the projection {projection.name!r} writes tables, and {type(store).__name__} has none. Use the"
            " backend postgresql, or make it a value: @projection(…, initial=…)"
        )
    return store.tables()


async def made(
    tables: TableSession,
    projection: TableProjection,
    checkpoint: Checkpoint,
    schema: str,
    work: Callable[[Any], Awaitable[None]],
    *,
    sequence: int,
    state: JsonValue = None,
) -> None:
    """Make what `work` makes, in a new `schema`. Raises `TablesNotMade`, `CheckpointLost`."""

    async def make() -> None:
        await tables.make(checkpoint, schema, work, projection.readers, sequence=sequence, state=state)

    try:
        await patiently(make)
    except StoreError:
        raise
    except Exception as error:
        raise TablesNotMade(projection.name, error) from error
