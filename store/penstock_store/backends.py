"""Backends by name. Third parties add one by an entry point in group `penstock_store.BACKENDS_GROUP`:

    [project.entry-points."penstock.event_store_backends"]
    mine = "my_package:create"

where `create(**settings)` returns an `EventStore` that is not initialized yet. Its parameters, or those of a
dataclass that `@takes` names, are what a configuration file may set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar, get_origin, get_type_hints

from penstock_store.errors import StoreError
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import InvalidSettings, UnknownBackend

__all__ = [
    "BACKENDS_GROUP",
    "Accepted",
    "accepted",
    "backend_names",
    "create_event_store",
    "same_backend",
    "takes",
]

BACKENDS_GROUP: Final = "penstock.event_store_backends"
_Factory = TypeVar("_Factory", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Accepted:
    """A setting that a backend takes."""

    kind: Any  # its type, as annotated
    required: bool
    default: object


def backend_names() -> list[str]:
    """Every name that `create_event_store` takes, sorted; nothing is imported."""
    return sorted(_found())


def create_event_store(backend: str, **settings: Any) -> EventStore:
    """A store, not yet initialized: use it as `async with`.

    `memory`: no settings. `file`: `directory` and the rest of `FileSettings`. `postgresql` (or `postgres`):
    `dsn` and the rest of `StoreSettings`. Raises `UnknownBackend`, or `InvalidSettings` or another
    `StoreError` of the backend.
    """
    try:
        return _factory(backend)(**settings)
    except StoreError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidSettings(f"the settings of backend {backend!r} do not fit: {error}") from error


def takes(settings: type) -> Callable[[_Factory], _Factory]:
    """Mark a factory `create(**settings)` as taking the fields of this dataclass."""

    def mark(factory: _Factory) -> _Factory:
        hints = get_type_hints(settings)
        signature = inspect.signature(settings)
        fields = [one.replace(annotation=hints[name]) for name, one in signature.parameters.items()]
        factory.__signature__ = signature.replace(parameters=fields)  # type: ignore[attr-defined]
        return factory

    return mark


def accepted(backend: str) -> dict[str, Accepted] | None:
    """What a file or the environment may set, by name; None where the factory takes whatever it is given.

    Raises `UnknownBackend`.
    """
    found: dict[str, Accepted] = {}
    for name, one in inspect.signature(_factory(backend), eval_str=True).parameters.items():
        if one.kind is one.VAR_KEYWORD:
            return None
        if get_origin(one.annotation) is not Callable:  # no text says a function
            kind = object if one.annotation is one.empty else one.annotation
            found[name] = Accepted(
                kind, one.default is one.empty, None if one.default is one.empty else one.default
            )
    return found


def same_backend(backend: str) -> list[str]:
    """The names, this one first, that mean the same: postgres and postgresql."""
    found = _found()
    if backend not in found:
        return [backend]
    return [
        backend,
        *(name for name in sorted(found) if name != backend and found[name].value == found[backend].value),
    ]


def _factory(backend: str) -> Callable[..., EventStore]:
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
    return factory


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=BACKENDS_GROUP)}
