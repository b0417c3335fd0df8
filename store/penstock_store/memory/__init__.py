"""A store in memory, for users' tests: the contract in its plainest form."""

from typing import Any

from penstock_store.backends import takes
from penstock_store.memory.store import MemoryEventStore, MemorySettings

__all__ = ["MemoryEventStore", "MemorySettings", "create"]


@takes(MemorySettings)
def create(**settings: Any) -> MemoryEventStore:
    """The entry point `memory`; takes the fields of `MemorySettings`."""
    return MemoryEventStore(MemorySettings(**settings))
