"""Where projections keep tables, and what outlasts an absence of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, runtime_checkable

import structlog
from pydantic import JsonValue

from penstock_store.checkpoint_errors import TablesNotMade
from penstock_store.checkpoints import Checkpoint
from penstock_store.errors import StoreError
from penstock_store.projections.definition import Projection, TableProjection
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import NotSupported

__all__ = ["TableSession", "made", "patiently", "tables_of"]

_LONGEST_PAUSE: Final = 30.0  # seconds between attempts while the server is away
_log = structlog.get_logger(__name__)


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


async def patiently(
    work: Callable[[], Awaitable[Any]], committed: Callable[[], Awaitable[bool]] | None = None
) -> Any:
    """Try again while the server is away. `committed`: whether an attempt without an answer was done."""
    pause, doubt = 0.25, False
    while True:
        try:
            if doubt and committed is not None and await committed():
                return None
            return await work()
        except StoreUnavailable as error:
            _log.warning("projection_waits", cause=str(error), retry_in_seconds=pause)
            doubt = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
