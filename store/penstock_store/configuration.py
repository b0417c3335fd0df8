"""The event store by configuration: a TOML file, or the environment, says which backend and how.

    [event_store]
    backend = "postgresql"      # the one line to change

    [event_store.postgresql]
    dsn = "postgresql://writer@host/penstock"

    [event_store.file]
    directory = "events"

PENSTOCK_EVENT_STORE_BACKEND and PENSTOCK_EVENT_STORE_<BACKEND>_<SETTING> win over the file, which wins over
the backend's defaults. A `dsn` that neither names is worker_database_url, else database_url, of the
environment or the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from penstock_store.backends import Accepted, accepted, backend_names, create_event_store, same_backend
from penstock_store.errors import StoreError
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import InvalidSettings

__all__ = [
    "FILE",
    "PREFIX",
    "Configuration",
    "Fault",
    "Setting",
    "event_store_from_config",
    "read_configuration",
]

FILE: Final = "penstock.toml"
PREFIX: Final = "PENSTOCK_EVENT_STORE_"
_SHARED: Final = {"dsn": ("worker_database_url", "database_url")}


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from: default, environment, the file's name, or another setting's."""

    name: str
    value: Any = field(repr=False)  # may be a secret
    source: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a key of the file or a variable of the environment; holds no value."""

    key: str
    source: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key} (from {self.source}): {self.problem}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What file and environment come to. With `faults` the store cannot be made."""

    backend: Setting | None  # None: nobody chose one
    settings: list[Setting]  # of the backend, defaults included
    faults: list[Fault]

    def create(self) -> EventStore:
        """The store, not yet initialized. Raises `InvalidSettings` or another `StoreError`."""
        if self.faults:
            raise InvalidSettings(
                f"the event store is configured wrongly. {'; '.join(map(str, self.faults))}"
            )
        if self.backend is None:
            raise InvalidSettings(
                'no event store is configured. Write `[event_store]` with backend = "file" (or another) into'
                f" {FILE}, or set {PREFIX}BACKEND"
            )
        given = {one.name: one.value for one in self.settings if one.source != "default"}
        return create_event_store(self.backend.value, **given)


def event_store_from_config(
    path: str | Path | None = None, *, environ: Mapping[str, str] | None = None
) -> EventStore:
    """The configured store: `async with event_store_from_config() as store`.

    `path`: the TOML file; where none is given penstock.toml in the working directory, if there is one.
    `environ`: instead of the process's environment. Raises `InvalidSettings`, which names every fault, and
    `UnknownBackend`.
    """
    chosen = Path(FILE) if path is None else Path(path)
    try:
        document = tomllib.loads(chosen.read_text("utf-8"))
    except FileNotFoundError as error:
        if path is not None:
            raise InvalidSettings(f"there is no {chosen}. Correct the path, or leave it out") from error
        document = {}
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"{chosen} cannot be read: {error}") from error
    given = os.environ if environ is None else environ
    return read_configuration(document, given, file=chosen.name).create()


def read_configuration(
    document: Mapping[str, Any], environ: Mapping[str, str], *, file: str = FILE, named: str | None = None
) -> Configuration:
    """From the whole of a TOML document, and the environment. Raises nothing: see `Configuration.faults`.

    `named`: a backend, whichever of them is chosen there.
    """
    table = document.get("event_store", {})
    if not isinstance(table, dict):
        return Configuration(None, [], [Fault("event_store", file, "must be a table, [event_store]")])
    backend = _backend(table, environ, file) if named is None else Setting("backend", named, "its name")
    names = same_backend(backend.value) if backend is not None and isinstance(backend.value, str) else []
    faults = list(_other_tables(table, names, file))
    if backend is None:
        return Configuration(None, [], faults)
    key = f"{PREFIX}BACKEND" if backend.source == "environment" else "event_store.backend"
    if backend.value not in backend_names():
        said = f"no backend is called {backend.value!r}{_suggest(backend.value, backend_names())}"
        return Configuration(backend, [], [*faults, Fault(key, backend.source, said)])
    try:
        given = _Given(accepted(backend.value))
    except StoreError as error:
        return Configuration(backend, [], [*faults, Fault(key, backend.source, str(error))])
    given.share(document, environ, file)
    for name in reversed(names):
        given.from_table(name, table.get(name), file)
    for name in reversed(names):
        given.from_environment(name, environ)
    settings, missing = given.complete(backend.value)
    return Configuration(backend, settings, [*faults, *given.faults, *missing])


def _backend(table: Mapping[str, Any], environ: Mapping[str, str], file: str) -> Setting | None:
    if value := environ.get(f"{PREFIX}BACKEND"):
        return Setting("backend", value, "environment")
    return Setting("backend", table["backend"], file) if "backend" in table else None


def _other_tables(table: Mapping[str, Any], chosen: Collection[str], file: str) -> Iterator[Fault]:
    """Those of the backends that are not chosen: a switch would take them."""
    for key, value in table.items():
        if key == "backend":
            continue
        if key not in backend_names():
            yield Fault(
                f"event_store.{key}", file, f"unknown key{_suggest(key, [*backend_names(), 'backend'])}"
            )
        elif not isinstance(value, dict):
            yield Fault(f"event_store.{key}", file, f"must be a table, [event_store.{key}]")
        elif key not in chosen:
            with suppress(StoreError):  # what cannot be imported cannot be looked at
                given = _Given(accepted(key))
                given.from_table(key, value, file)
                yield from given.faults


class _Given:
    """The settings of one backend that somebody gave, checked; later ones win."""

    def __init__(self, fields: Mapping[str, Accepted] | None) -> None:
        self._fields = fields  # None: whatever is given
        self._given: dict[str, Setting] = {}
        self.faults: list[Fault] = []

    def share(self, document: Mapping[str, Any], environ: Mapping[str, str], file: str) -> None:
        """What other settings of the application say already."""
        for name in _SHARED.keys() & (self._fields or {}).keys():
            for shared in reversed(_SHARED[name]):
                variable = f"PENSTOCK_{shared.upper()}"
                if shared in document:
                    self._given[name] = Setting(name, document[shared], f"{shared} of {file}")
                if environ.get(variable):
                    self._given[name] = Setting(name, environ[variable], variable)

    def from_table(self, backend: str, table: object, file: str) -> None:
        """TOML has types: a number in quotes is none."""
        for name, value in table.items() if isinstance(table, dict) else ():
            self._take(name, f"event_store.{backend}.{name}", value, file, strict=True)

    def from_environment(self, backend: str, environ: Mapping[str, str]) -> None:
        """Text, which is read as what the setting is."""
        prefix = _variable(backend, "")
        for variable, value in environ.items():
            if variable.startswith(prefix) and value:
                name = variable.removeprefix(prefix).lower()
                self._take(name, variable, value, "environment", strict=False)

    def complete(self, backend: str) -> tuple[list[Setting], list[Fault]]:
        """With the defaults of the others, and what is missing."""
        settings, missing = list(self._given.values()), []
        wrong = {fault.key.lower() for fault in self.faults}
        for name, one in (self._fields or {}).items():
            if name in self._given:
                continue
            if not one.required:
                settings.append(Setting(name, one.default, "default"))
            elif not any(key.endswith(name) for key in wrong):
                how = f"write it into [event_store.{backend}], or set {_variable(backend, name)}"
                missing.append(Fault(f"event_store.{backend}.{name}", "nowhere", f"is missing: {how}"))
        return settings, missing

    def _take(self, name: str, key: str, value: Any, source: str, *, strict: bool) -> None:
        if self._fields is None:
            self._given[name] = Setting(name, value, source)
        elif name not in self._fields:
            self.faults.append(Fault(key, source, f"unknown key{_suggest(name, self._fields)}"))
        else:
            try:
                checked = TypeAdapter(self._fields[name].kind).validate_python(value, strict=strict)
                self._given[name] = Setting(name, checked, source)
            except ValidationError as error:
                said = error.errors(include_input=False, include_url=False)[0]["msg"]
                self.faults.append(Fault(key, source, said))


def _variable(backend: str, name: str) -> str:
    return f"{PREFIX}{backend.upper()}_{name.upper()}"


def _suggest(wrong: object, known: Iterable[str]) -> str:
    names = sorted(known)
    close = get_close_matches(str(wrong), names, 1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
