"""Backends are found by name through entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from penstock_store import backends
from penstock_store.file import FileEventStore
from penstock_store.memory import MemoryEventStore
from penstock_store.postgresql.store import PostgresStore
from penstock_store.store_errors import InvalidSettings, UnknownBackend


def test_the_names_that_are_installed() -> None:
    assert {"eventstore", "file", "kurrentdb", "memory", "postgres", "postgresql"} <= set(
        backends.backend_names()
    )
    assert type(backends.create_event_store("memory")) is MemoryEventStore
    assert type(backends.create_event_store("file", directory="unused")) is FileEventStore
    for name in ("postgresql", "postgres"):
        made = backends.create_event_store(name, dsn="postgresql+asyncpg://host/database")
        assert type(made) is PostgresStore


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(UnknownBackend, match="eventstore, file, kurrentdb, memory, postgres, postgresql"):
        backends.create_event_store("nonsense")


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(InvalidSettings, match="directry"):
        backends.create_event_store("file", directry="x")


def _make_mine(**settings: Any) -> MemoryEventStore:
    assert settings == {"colour": "red"}
    return MemoryEventStore()


def test_third_parties_may_add_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = EntryPoint("mine", "third_party:make", backends.BACKENDS_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _self: _make_mine)
    monkeypatch.setattr(backends, "entry_points", lambda group: EntryPoints([mine]).select(group=group))
    assert type(backends.create_event_store("mine", colour="red")) is MemoryEventStore


def test_a_backend_that_cannot_be_imported_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = EntryPoint("absent", "no_such_package:make", backends.BACKENDS_GROUP)
    monkeypatch.setattr(backends, "entry_points", lambda group: EntryPoints([absent]).select(group=group))
    with pytest.raises(UnknownBackend, match="no_such_package"):
        backends.create_event_store("absent")
