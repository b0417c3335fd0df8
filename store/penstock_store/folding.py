"""The state of one entity or correlation: its events folded, beginning with the newest snapshot that fits."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_schemas._text import MAX_IDENTIFIER_BYTES
from penstock_store.checkpoint_errors import EventsExpired
from penstock_store.contract import QueryOptions
from penstock_store.store_contract import Snapshot
from penstock_store.store_errors import InvalidSnapshot

__all__ = ["Fold", "Loaded", "Subject", "load_state"]

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
    expired_through: int | None = None  # events up to here may be missing (`accept_loss`); None: none is


@dataclass(frozen=True, slots=True)
class Subject:
    """What is folded."""

    key: tuple[str, ...]  # in its snapshots' keys
    words: str  # for a person


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
    subject: Subject,
    name: str | None,
    state_version: int,
    snapshot_every: int | None,
    expired_through: Callable[[], Awaitable[int]],
    accept_loss: bool,
) -> Loaded[_State]:
    """See `EventStore.load`. `options` choose the events of `subject`, by sequence."""
    if snapshot_every is not None and (type(snapshot_every) is not int or snapshot_every < _LEAST_EVERY):
        raise InvalidSnapshot(
            f"snapshot_every must be a whole number of events from 1; got {snapshot_every!r}"
        )
    key = _key(fold, name, subject.key)
    found = await store.get_snapshot(key, state_version=state_version)
    folded = None
    if found is not None:
        folded = await _from(store, options, fold, found, expired_through)
    if folded is None:
        folded = await _from_the_first(store, options, fold, initial)
    loaded, newest = folded
    # Looked up after reading: what is dropped in between counts as not read, rather a false alarm.
    start, expired = loaded.from_snapshot or 0, await expired_through()
    if expired > start:
        if not accept_loss:
            raise EventsExpired(f"the fold of {subject.words}", position=start, expired_through=expired)
        loaded = replace(loaded, expired_through=expired)
    enough = snapshot_every is not None and loaded.events_read >= snapshot_every
    if enough and loaded.version != start:
        state: JsonValue = {"event_id": newest, "state": loaded.state}  # type: ignore[dict-item]
        taken = await store.create_snapshot(key, state, sequence=loaded.version, state_version=state_version)
        loaded = replace(loaded, snapshot_taken=taken)
    return loaded


async def _from_the_first(
    store: _Store, options: QueryOptions, fold: Fold[_State], initial: _State
) -> tuple[Loaded[_State], str]:
    """And the id of the newest event in it."""
    state, version, count, newest = copy.deepcopy(initial), 0, 0, ""
    async with aclosing(store.stream(options)) as events:
        async for event in events:
            state, version, count = fold(state, event), event.sequence, count + 1
            newest = str(event.event_id)
    return Loaded(
        state=state, version=version, events_read=count, from_snapshot=None, snapshot_taken=False
    ), newest


async def _from(
    store: _Store,
    options: QueryOptions,
    fold: Fold[_State],
    found: Snapshot,
    expired_through: Callable[[], Awaitable[int]],
) -> tuple[Loaded[_State], str] | None:
    """None where the snapshot is of another history: its own newest event, which is read along, is not
    there, though retention did not drop it, or another one has its sequence. (Restored events beside newer
    snapshots look like that.)
    """
    match found.state:
        case {"event_id": str(newest), "state": kept}:
            state: _State = kept  # type: ignore[assignment]
        case _:  # not one of ours
            return None
    version, count, belongs = found.sequence, 0, False
    async with aclosing(store.stream(options.replace(after_sequence=found.sequence - 1))) as events:
        async for event in events:
            count += 1
            if event.sequence == found.sequence:
                if str(event.event_id) != newest:
                    return None
                belongs = True
                continue
            if not belongs and await expired_through() < found.sequence:
                return None
            belongs = True
            state, version, newest = fold(state, event), event.sequence, str(event.event_id)
    if not belongs and await expired_through() < found.sequence:
        return None
    return Loaded(
        state=state, version=version, events_read=count, from_snapshot=found.sequence, snapshot_taken=False
    ), newest


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
