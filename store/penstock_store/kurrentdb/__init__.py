"""Events in KurrentDB (once EventStoreDB), a stream for each entity. An extra: penstock-store[kurrentdb]."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from penstock_store.backends import takes
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.store_errors import UnknownBackend

if TYPE_CHECKING:
    from penstock_store.kurrentdb.store import KurrentEventStore

__all__ = ["KurrentSettings", "create"]


@takes(KurrentSettings)
def create(**settings: Any) -> KurrentEventStore:
    """The entry points `kurrentdb` and `eventstore`; takes the fields of `KurrentSettings`."""
    if find_spec("kurrentdbclient") is None:
        raise UnknownBackend(
            "the backend 'kurrentdb' needs the package kurrentdbclient, which is not installed. Install it"
            " with the extra: pip install 'penstock-store[kurrentdb]'"
        )
    from penstock_store.kurrentdb.store import KurrentEventStore  # gRPC, which others need not have

    return KurrentEventStore(KurrentSettings(**settings))
