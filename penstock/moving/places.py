"""What `--from` and `--to` may say: `file:DIR`, a URL of PostgreSQL, a backend with settings or alone."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.errors import InputError
from penstock.settings import FILE, DatabaseRole, Settings

if TYPE_CHECKING:
    from penstock_store.store_contract import EventStore

__all__ = ["Place", "place_of"]

_COMPLETED = ("file", "postgresql")  # what their tables leave open has another source
_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")


class Place(NamedTuple):
    """A store to be opened. `name` can be shown: it holds no secret."""

    backend: str
    settings: dict[str, Any]
    name: str

    def same_as(self, other: "Place") -> bool:
        """Certainly the same store; two URLs may still lead to one."""
        names = ("directory", "dsn", "uri")
        mine, theirs = ([place.settings.get(name) for name in names] for place in (self, other))
        return self.backend == other.backend and mine == theirs and any(mine)

    def store(self) -> "EventStore":
        """Not yet initialized. Raises `StoreError`."""
        from penstock_store.backends import create_event_store

        return create_event_store(self.backend, **self.settings)


def place_of(text: str, settings: Settings, *, reads: bool, may_be_new: bool = False) -> Place:
    """`reads`: nothing is written there. `may_be_new`: a directory that is not there yet is an empty store.
    Raises `InputError`, `StoreError`.

    A backend alone has the settings of its table in penstock.toml, and of the environment. What they leave
    open: `file` is file:events, `postgresql` the database of the settings, with the reader's or the worker's
    login.
    """
    backend, separator, rest = text.partition(":")
    if backend == "memory":
        raise InputError("memory holds nothing that could be copied from or to: it ends with the process.")
    if backend in _SCHEMES:
        return _postgresql(text, rest, settings, reads=reads)
    configured = {} if separator else _configured(backend, settings)
    if backend == "file":
        return _file({"directory": rest or "events", **configured}, reads=reads, may_be_new=may_be_new)
    return Place(backend, _pairs(text, rest) if separator else configured, backend)


def _configured(backend: str, settings: Settings) -> dict[str, Any]:
    """Raises `InvalidSettings`, which names what is wrong or missing, or `UnknownBackend`."""
    from penstock_store.backends import accepted
    from penstock_store.configuration import Configuration, read_configuration

    accepted(backend)
    found = read_configuration({"event_store": settings.event_store}, os.environ, file=FILE, named=backend)
    given = {one.name: one.value for one in found.settings if one.source in (FILE, "environment")}
    wrong = [one for one in found.faults if one.source != "nowhere" or backend not in _COMPLETED]
    if wrong:
        Configuration(found.backend, found.settings, wrong).create()
    return given


def _postgresql(text: str, rest: str, settings: Settings, *, reads: bool) -> Place:
    from penstock_store.dsn import redact_dsn

    given: dict[str, Any] = {"connect_timeout": settings.timeout_seconds}
    if rest.startswith("//"):
        given["dsn"] = text
    elif rest:
        raise InputError(
            f"{text!r} is no store: write postgresql://user@host:port/database, or postgresql alone."
        )
    else:
        given |= _configured("postgresql", settings)
    if "dsn" not in given:
        given["dsn"] = settings.database(DatabaseRole.READER if reads else DatabaseRole.WORKER)
    return Place("postgresql", given, redact_dsn(given["dsn"]))


def _file(given: dict[str, Any], *, reads: bool, may_be_new: bool) -> Place:
    from pathlib import Path

    directory = given["directory"]
    given = {**given, "directory": Path(directory).resolve()}
    if reads and not Path(directory).is_dir():
        if may_be_new:
            return Place("memory", {}, f"file:{directory}")
        raise InputError(
            f"{directory} is no directory of events: write file:DIR, where the store keeps them."
        )
    return Place("file", {**given, "read_only": reads}, f"file:{directory}")


def _pairs(text: str, rest: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in rest.split(",")]
    if not all(name and separator for name, separator, _ in pairs):
        raise InputError(
            f"{text!r} is no store: write file:DIR, postgresql://user@host:port/database, or the name of"
            " another backend with its settings, as NAME:setting=value,setting=value."
        )
    return {name: value for name, _, value in pairs}
