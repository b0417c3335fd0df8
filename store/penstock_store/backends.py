"""Backends by name. Third parties add one by an entry point in group `penstock_store.BACKENDS_GROUP`:

    [project.entry-points."penstock.event_store_backends"]
    mine = "my_package:create"

where `create(**settings)` returns an `EventStore` that is not initialized yet.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from penstock_store.errors import StoreError
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import InvalidSettings, UnknownBackend

__all__ = ["BACKENDS_GROUP", "backend_names", "create_event_store"]

BACKENDS_GROUP: Final = "penstock.event_store_backends"


def backend_names() -> list[str]:
    """Every name that `create_event_store` takes, sorted; nothing is imported."""
    return sorted(_found())


def create_event_store(backend: str, **settings: Any) -> EventStore:
    """A store, not yet initialized: use it as `async with`.

    `memory`: no settings. `file`: `directory` and the rest of `FileSettings`. `postgresql` (or `postgres`):
    `dsn` and the rest of `StoreSettings`. Raises `UnknownBackend`, or `InvalidSettings` or another
    `StoreError` of the backend.
    """
    found = _found().get(backend)
    if found is None:
        known = ", ".join(backend_names())
        raise UnknownBackend(
            f"no event store backend is called {backend!r}. Installed: {known}. "
            "Correct the name, or install the package that brings it"
        )
    try:
        factory: Callable[..., EventStore] = found.load()
    except ImportError as error:
        raise UnknownBackend(
            f"the backend {backend!r} ({found.value}) cannot be imported: {error}. Install what it needs"
        ) from error
    try:
        return factory(**settings)
    except StoreError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidSettings(f"the settings of backend {backend!r} do not fit: {error}") from error


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=BACKENDS_GROUP)}
