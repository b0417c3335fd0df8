"""What `--from` and `--to` may say: `file:DIR`, a URL of PostgreSQL, or a backend with its settings."""

from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.errors import InputError
from penstock.settings import DatabaseRole, Settings

if TYPE_CHECKING:
    from penstock_store.store_contract import EventStore

__all__ = ["Place", "place_of"]

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")


class Place(NamedTuple):
    """A store to be opened. `name` can be shown: it holds no secret."""

    backend: str
    settings: dict[str, Any]
    name: str

    def store(self) -> "EventStore":
        """Not yet initialized. Raises `StoreError`."""
        from penstock_store.backends import create_event_store

        return create_event_store(self.backend, **self.settings)


def place_of(text: str, settings: Settings, *, reads: bool, may_be_new: bool = False) -> Place:
    """`reads`: nothing is written there. `may_be_new`: a directory that is not there yet is an empty store.
    Raises `InputError`.

    `file` is file:events, `postgresql` the database of the settings, with the reader's or the worker's login.
    """
    backend, separator, rest = text.partition(":")
    if backend in _SCHEMES:
        return _postgresql(text, rest, settings, reads=reads)
    if backend == "file":
        return _file(rest or "events", reads=reads, may_be_new=may_be_new)
    if backend == "memory":
        raise InputError("memory holds nothing that could be copied from or to: it ends with the process.")
    return Place(backend, _pairs(text, rest) if separator else {}, backend)


def _postgresql(text: str, rest: str, settings: Settings, *, reads: bool) -> Place:
    from penstock_store.dsn import redact_dsn

    if rest.startswith("//"):
        dsn = text
    elif rest:
        raise InputError(
            f"{text!r} is no store: write postgresql://user@host:port/database, or postgresql alone."
        )
    else:
        dsn = settings.database(DatabaseRole.READER if reads else DatabaseRole.WORKER)
    timeouts = {"connect_timeout": settings.timeout_seconds}
    return Place("postgresql", {"dsn": dsn, **timeouts}, redact_dsn(dsn))


def _file(directory: str, *, reads: bool, may_be_new: bool) -> Place:
    from pathlib import Path

    if reads and not Path(directory).is_dir():
        if may_be_new:
            return Place("memory", {}, f"file:{directory}")
        raise InputError(
            f"{directory} is no directory of events: write file:DIR, where the store keeps them."
        )
    return Place(
        "file", {"directory": directory, **({"read_only": True} if reads else {})}, f"file:{directory}"
    )


def _pairs(text: str, rest: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in rest.split(",")]
    if not all(name and separator for name, separator, _ in pairs):
        raise InputError(
            f"{text!r} is no store: write file:DIR, postgresql://user@host:port/database, or the name of"
            " another backend with its settings, as NAME:setting=value,setting=value."
        )
    return {name: value for name, _, value in pairs}
