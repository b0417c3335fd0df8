"""What can go wrong with a whole store: appends, snapshots, files, backends. All below `StoreError`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from penstock_store.errors import StoreError
from penstock_store.read_errors import ReadError

__all__ = [
    "AppendConflict",
    "AppendError",
    "CorruptedEvents",
    "InvalidAppend",
    "InvalidSettings",
    "InvalidSnapshot",
    "NotSupported",
    "StoreLocked",
    "UnknownBackend",
    "WrongExpectedVersion",
]


class AppendError(StoreError):
    """Root of what an append is refused with. Nothing of the call was stored."""


class InvalidAppend(AppendError, ValueError):
    """The call cannot be carried out as it is written; the message says what to change."""


class AppendConflict(AppendError):
    """A key or an event id is stored already, for something else. Give each event its own.

    `event_ids`: those of the events given that conflict; `places`: their indexes in the call, which tell two
    of one id apart. `reason`: key_conflict or event_id_taken.
    """

    def __init__(self, event_ids: Sequence[UUID], reason: str, *, places: Sequence[int]) -> None:
        self.event_ids = tuple(event_ids)
        self.places = tuple(places)
        self.reason = reason
        said = {
            "key_conflict": "the idempotency key stands for another type, entity or payload",
            "event_id_taken": "the event id stands under another idempotency key",
        }[reason]
        shown = ", ".join(map(str, self.event_ids[:5]))
        super().__init__(
            f"{said}, for {len(self.event_ids)} event(s) of the call ({shown}). Nothing was stored: "
            "give each event its own key and id"
        )


class WrongExpectedVersion(AppendError):
    """The entity has moved on. Read it again, decide again, and append with the version read.

    `actual`: the sequence of the entity's newest event, 0 where it has none. On PostgreSQL reads by sequence
    may reach it a moment later: see "The state of an entity" in docs/event-store.md.
    """

    def __init__(self, tenant_id: str, entity_id: str, *, expected: int, actual: int) -> None:
        self.tenant_id = tenant_id
        self.entity_id = entity_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"entity {entity_id!r} of tenant {tenant_id!r} is at version {actual}, not {expected}. "
            "Nothing was stored: read the entity again and decide anew"
        )


class InvalidSnapshot(StoreError, ValueError):
    """A snapshot's key, version, sequence or state cannot be stored; the message says why."""


class NotSupported(StoreError):
    """The backend does not declare this capability. See `EventStore.capabilities`; choose another backend."""


class UnknownBackend(StoreError, LookupError):
    """No backend has this name. The message lists those that are installed."""


class InvalidSettings(StoreError, ValueError):
    """A setting of a backend cannot be used; the message names it and says what to write."""


class StoreLocked(StoreError):
    """Another process writes to this directory. Stop it, or open the store for reading only."""


class CorruptedEvents(ReadError):
    """Lines of a file cannot be trusted. `places` says where. Restore them from a backup, or read on with
    `QueryOptions(skip_corrupted=True)`, which leaves them out and reports each.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self.places = tuple(places)
        shown = "; ".join(self.places[:5]) + ("; …" if len(self.places) > 5 else "")
        super().__init__(
            f"{len(self.places)} corrupted place(s): {shown}. Restore the file from a backup, "
            "or read without them by skip_corrupted=True"
        )
