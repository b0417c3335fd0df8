"""The state of one entity or correlation: its events folded, beginning with the newest snapshot that fits."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_schemas._text import MAX_IDENTIFIER_BYTES
from penstock_store.contract import QueryOptions
from penstock_store.store_contract import Snapshot
from penstock_store.store_errors import InvalidSnapshot

__all__ = ["Fold", "Loaded", "load_state"]

_State = TypeVar("_State")
Fold = Callable[[_State, RecordedEvent], _State]
_LEAST_EVERY: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[_State]):
    """A folded state and what it took."""

    state: _State
    version: int  # sequence of the newest event in it, 0 for none: what `expected_version` wants
    events_read: int
    from_snapshot: int | None  # the sequence of the snapshot it began with; None: with the first event
    snapshot_taken: bool


class _Store(Protocol):
    def stream(self, options: QueryOptions = ...) -> AsyncGenerator[RecordedEvent, None]: ...

    async def get_snapshot(self, key: str, *, state_version: int = 1) -> Snapshot | None: ...

    async def create_snapshot(
        self, key: str, state: JsonValue, *, sequence: int, state_version: int = 1
    ) -> bool: ...


async def load_state(
    store: _Store,
    options: QueryOptions,
    fold: Fold[_State],
    initial: _State,
    *,
    subject: tuple[str, ...],
    name: str | None,
    state_version: int,
    snapshot_every: int | None,
    expired_through: Callable[[], Awaitable[int]],
) -> Loaded[_State]:
    """See `EventStore.load`. `options` choose the events of `subject`, by sequence."""
    if snapshot_every is not None and snapshot_every < _LEAST_EVERY:
        raise InvalidSnapshot(f"snapshot_every must be 1 or more events; got {snapshot_every!r}")
    key = _key(fold, name, subject)
    found = await store.get_snapshot(key, state_version=state_version)
    if found is not None:
        loaded = await _from(store, options, fold, found, expired_through)
        if loaded is not None:
            return await _kept(store, loaded, found.sequence, key, state_version, snapshot_every)
    state, version, count = copy.deepcopy(initial), 0, 0
    async with aclosing(store.stream(options)) as events:
        async for event in events:
            state, version, count = fold(state, event), event.sequence, count + 1
    loaded = Loaded(state=state, version=version, events_read=count, from_snapshot=None, snapshot_taken=False)
    return await _kept(store, loaded, 0, key, state_version, snapshot_every)


async def _from(
    store: _Store,
    options: QueryOptions,
    fold: Fold[_State],
    found: Snapshot,
    expired_through: Callable[[], Awaitable[int]],
) -> Loaded[_State] | None:
    """None where the snapshot is of another history: its own newest event, which is read along, is not
    there, though retention did not drop it. (Restored events beside newer snapshots look like that.)
    """
    state: _State = found.state  # type: ignore[assignment]
    version, count, belongs = found.sequence, 0, False
    async with aclosing(store.stream(options.replace(after_sequence=found.sequence - 1))) as events:
        async for event in events:
            count += 1
            if event.sequence == found.sequence:
                belongs = True
                continue
            if not belongs and await expired_through() < found.sequence:
                return None
            belongs = True
            state, version = fold(state, event), event.sequence
    if not belongs and await expired_through() < found.sequence:
        return None
    return Loaded(
        state=state, version=version, events_read=count, from_snapshot=found.sequence, snapshot_taken=False
    )


async def _kept(
    store: _Store,
    loaded: Loaded[_State],
    since: int,
    key: str,
    state_version: int,
    snapshot_every: int | None,
) -> Loaded[_State]:
    if snapshot_every is None or loaded.version == since or loaded.events_read < snapshot_every:
        return loaded
    state: JsonValue = loaded.state  # type: ignore[assignment]
    taken = await store.create_snapshot(key, state, sequence=loaded.version, state_version=state_version)
    return Loaded(
        state=loaded.state,
        version=loaded.version,
        events_read=loaded.events_read,
        from_snapshot=loaded.from_snapshot,
        snapshot_taken=taken,
    )


def _key(fold: Fold[_State], name: str | None, subject: tuple[str, ...]) -> str:
    """Different for each fold and subject; readable where an identifier may be that long."""
    if name is None:
        name = f"{getattr(fold, '__module__', '')}.{getattr(fold, '__qualname__', '<')}"
        if "<" in name:
            raise InvalidSnapshot(
                f"the fold {fold!r} has no name of its own, and snapshots are kept by it: give name=…"
            )
    key = json.dumps([name, *subject], ensure_ascii=False)
    if len(key.encode()) <= MAX_IDENTIFIER_BYTES:
        return key
    return f"{name[:200]}:{hashlib.sha256(key.encode()).hexdigest()}"
