"""The event store by file or environment: one line switches it, and every fault is named."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from penstock_store import backends
from penstock_store.configuration import Configuration, event_store_from_config, read_configuration
from penstock_store.contract import QueryOptions
from penstock_store.file import FileEventStore
from penstock_store.kurrentdb.store import KurrentEventStore
from penstock_store.memory import MemoryEventStore
from penstock_store.postgresql.store import PostgresStore
from penstock_store.store_errors import InvalidSettings

_SECRET = "s3cr3t-passphrase"
_BOTH = """
[event_store]
backend = "{}"
[event_store.postgresql]
dsn = "postgresql://writer@host/penstock"
pool_size = 2
[event_store.file]
directory = "events"
[event_store.kurrentdb]
uri = "esdb://ann:pw@h:2113"
"""


def _read(text: str, **environ: str) -> Configuration:
    return read_configuration(tomllib.loads(text), environ)


def _values(found: Configuration) -> dict[str, tuple[Any, str]]:
    return {one.name: (one.value, one.source) for one in found.settings}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("postgresql", PostgresStore),
        ("postgres", PostgresStore),
        ("file", FileEventStore),
        ("memory", MemoryEventStore),
        ("kurrentdb", KurrentEventStore),
        ("eventstore", KurrentEventStore),
    ],
)
async def test_one_line_switches_the_backend(tmp_path: Path, name: str, kind: type) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(_BOTH.format(name))
    assert type(event_store_from_config(path, environ={})) is kind


async def test_the_environment_wins_and_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "PENSTOCK_EVENT_STORE_BACKEND": "file",
        "PENSTOCK_EVENT_STORE_FILE_DIRECTORY": str(tmp_path / "here"),
        "PENSTOCK_EVENT_STORE_FILE_COMPRESS": "false",
    }
    async with event_store_from_config(environ=environ) as store:
        assert [event async for event in store.stream(QueryOptions())] == []
    assert (tmp_path / "here").is_dir()
    found = _read(_BOTH.format("file"), PENSTOCK_EVENT_STORE_FILE_MAX_SIZE="5000")
    assert found.faults == []
    assert _values(found)["directory"] == ("events", "penstock.toml")
    assert _values(found)["max_size"] == (5000, "environment")
    assert _values(found)["poll_interval"] == (0.25, "default")
    assert "clock" not in _values(found)


def test_a_dsn_is_the_applications_where_no_other_is_given() -> None:
    text = 'database_url = "postgresql://h/a"\n[event_store]\nbackend = "postgresql"\n'
    assert _values(_read(text))["dsn"] == ("postgresql://h/a", "database_url of penstock.toml")
    found = _read(text, PENSTOCK_WORKER_DATABASE_URL="postgresql://h/b")
    assert _values(found)["dsn"] == ("postgresql://h/b", "PENSTOCK_WORKER_DATABASE_URL")
    own = _read(text + '[event_store.postgres]\ndsn = "postgresql://h/c"\n')
    assert _values(own)["dsn"] == ("postgresql://h/c", "penstock.toml")


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        (
            '[event_store]\nbackend = "fil"',
            {},
            "event_store.backend (from penstock.toml): no backend is called",
        ),
        ('[event_store]\nbackend = "fil"', {}, "did you mean file?"),
        ("[event_store]\nbackend = 5", {}, "no backend is called 5"),
        ('event_store = "file"', {}, "event_store (from penstock.toml): must be a table"),
        ('[event_store]\nbackend = "memory"\nfile = 1', {}, "must be a table, [event_store.file]"),
        ('[event_store]\nbackend = "memory"\n[event_store.fiel]', {}, "did you mean file?"),
        (
            '[event_store]\nbackend = "memory"\n[event_store.file]\ndirektory = "x"',
            {},
            "did you mean directory?",
        ),
        ('[event_store]\nbackend = "file"', {}, "event_store.file.directory (from nowhere): is missing"),
        (
            '[event_store]\nbackend = "file"\n[event_store.file]\ndirectory = "x"\nmax_size = "5000"',
            {},
            "event_store.file.max_size (from penstock.toml): Input should be a valid integer",
        ),
        (
            "",
            {"PENSTOCK_EVENT_STORE_BACKEND": "memory", "PENSTOCK_EVENT_STORE_MEMORY_X": "1"},
            "PENSTOCK_EVENT_STORE_MEMORY_X (from environment): unknown key",
        ),
        (
            "",
            {
                "PENSTOCK_EVENT_STORE_BACKEND": "file",
                "PENSTOCK_EVENT_STORE_FILE_DIRECTORY": "x",
                "PENSTOCK_EVENT_STORE_FILE_COMPRESS": _SECRET,
            },
            "PENSTOCK_EVENT_STORE_FILE_COMPRESS (from environment): Input should be a valid boolean",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, environ: dict[str, str], expected: str) -> None:
    found = _read(text, **environ)
    assert expected in "; ".join(map(str, found.faults))
    with pytest.raises(InvalidSettings, match="configured wrongly") as caught:
        found.create()
    assert _SECRET not in str(caught.value)


def test_no_configuration_says_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSettings, match="PENSTOCK_EVENT_STORE_BACKEND"):
        event_store_from_config(environ={})
    with pytest.raises(InvalidSettings, match=r"there is no absent\.toml"):
        event_store_from_config("absent.toml", environ={})
    (tmp_path / "penstock.toml").write_text("[event_store")
    with pytest.raises(InvalidSettings, match=r"penstock\.toml cannot be read"):
        event_store_from_config(environ={})


def test_no_secret_is_in_its_representation() -> None:
    found = _read(
        f'[event_store]\nbackend="postgresql"\n[event_store.postgresql]\ndsn="postgresql://u:{_SECRET}@h/d"'
    )
    assert found.faults == []
    assert _SECRET not in repr(found)


def _make_mine(*, colour: str, size: int = 3) -> MemoryEventStore:
    assert (colour, size) == ("red", 5)
    return MemoryEventStore()


def _make_any(**settings: Any) -> MemoryEventStore:
    assert settings == {"anything": [1]}
    return MemoryEventStore()


@pytest.mark.parametrize(
    ("factory", "table"), [(_make_mine, 'colour = "red"\nsize = 5'), (_make_any, "anything = [1]")]
)
def test_a_third_partys_is_configured_the_same_way(
    monkeypatch: pytest.MonkeyPatch, factory: object, table: str
) -> None:
    mine = EntryPoint("mine", "third_party:make", backends.BACKENDS_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _self: factory)
    monkeypatch.setattr(backends, "entry_points", lambda group: EntryPoints([mine]).select(group=group))
    text = f'[event_store]\nbackend = "mine"\n[event_store.mine]\n{table}'
    assert type(_read(text).create()) is MemoryEventStore
    wrong = _read('[event_store]\nbackend = "mine"\n[event_store.mine]\nsize = "5"')
    assert bool(wrong.faults) is (factory is _make_mine)
