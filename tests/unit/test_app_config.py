"""`penstock config show|lint`: sources, faults with their places, no secret, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock.configuration import Finding, Level, effective, lint
from penstock.errors import SettingsError
from penstock.settings import Settings

_SECRET = "s3cr3t-passphrase"


def _toml(root: Path, text: str) -> Path:
    path = root / "penstock.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def _lint(root: Path, **environ: str) -> list[Finding]:
    return lint(root, environ)


def test_each_setting_is_shown_with_its_source(tmp_path: Path) -> None:
    _toml(tmp_path, 'group_id = "g"\n[event_store]\nbackend = "file"\n[event_store.file]\ndirectory = "d"\n')
    environ = {"PENSTOCK_LOG_LEVEL": "debug", "PENSTOCK_EVENT_STORE_FILE_MAX_SIZE": "5000"}
    shown = {one.name: (one.value, one.source) for one in effective(tmp_path, environ)}
    assert shown["group_id"] == ("g", "penstock.toml")
    assert shown["log_level"] == ("debug", "environment")
    assert shown["timeout_seconds"] == (10.0, "default")
    assert shown["event_store.backend"] == ("file", "penstock.toml")
    assert shown["event_store.file.directory"] == ("d", "penstock.toml")
    assert shown["event_store.file.max_size"] == (5000, "environment")
    assert shown["event_store.file.compress"] == (True, "default")


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (f'database_url = "postgresql://u:{_SECRET}@h/d"\n[event_store]\nbackend = "postgresql"', {}),
        (f'[event_store]\nbackend = "kurrentdb"\n[event_store.kurrentdb]\nuri = "kdb://u:{_SECRET}@h"', {}),
        ("", {"PENSTOCK_KAFKA_CONFIG": json.dumps({"sasl.password": _SECRET})}),
        ("", {"PENSTOCK_REGISTRY_PASSWORD": _SECRET, "PENSTOCK_REGISTRY_USER": "u"}),
    ],
)
def test_no_secret_is_shown_or_linted(
    tmp_path: Path,
    text: str,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _toml(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for command in (["show"], ["show", "--json"], ["lint"], ["lint", "--json"]):
        assert run(["config", *command]) == ExitCode.OK
    said = capsys.readouterr()
    assert _SECRET not in said.out + said.err
    assert "***" in said.out


@pytest.mark.parametrize(
    ("text", "environ", "key", "problem"),
    [
        ('databse_url = "x"', {}, "databse_url", "unknown key; did you mean database_url?"),
        ("group_id = 5", {}, "group_id", "valid string"),
        ("", {"PENSTOCK_RETAIN_DAYS": "x"}, "PENSTOCK_RETAIN_DAYS", "valid number"),
        ('reader_database_url = "postgresql://r:a[b@db/d"', {}, "reader_database_url", "percent-encode"),
        ('[event_store]\nbackend = "fil"', {}, "event_store.backend", "did you mean file?"),
        ('[event_store]\nbackend = "postgresql"', {}, "event_store.postgresql.dsn", "is missing"),
        (
            '[event_store]\nbackend = "file"\n[event_store.file]\ndirectory = "x"\nmax_size = 1',
            {},
            "event_store.file",
            "max_size must be at least",
        ),
        ('registry_user = "u"', {}, "registry_password", "is missing"),
        (
            '[kafka_config]\n"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "PLAIN"\n'
            '"sasl.username" = "u"',
            {},
            "kafka_config",
            "has no sasl.password",
        ),
    ],
)
def test_an_error_names_its_key_and_place(
    tmp_path: Path, text: str, environ: dict[str, str], key: str, problem: str
) -> None:
    _toml(tmp_path, text)
    (found,) = _lint(tmp_path, **environ)
    assert (found.level, found.key) == (Level.ERROR, key)
    assert problem in found.problem
    assert found.source in ("environment" if environ else "penstock.toml", "nowhere")


@pytest.mark.parametrize("text", ["topics = [", "\x00"])
def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path, text: str) -> None:
    _toml(tmp_path, text)
    (found,) = _lint(tmp_path)
    assert found.level is Level.ERROR
    assert "penstock.toml" in found.problem


@pytest.mark.parametrize(
    ("text", "environ", "key", "problem"),
    [
        ("", {"PENSTOCK_DATABSE_URL": "x"}, "PENSTOCK_DATABSE_URL", "did you mean PENSTOCK_DATABASE_URL?"),
        ('reader_database_url = "postgresql://r@db.example/d"', {}, "reader_database_url", "has no password"),
    ],
)
def test_a_warning_is_no_error(
    tmp_path: Path,
    text: str,
    environ: dict[str, str],
    key: str,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    _toml(tmp_path, text)
    (found,) = _lint(tmp_path, **environ)
    assert (found.level, found.key) == (Level.WARNING, key)
    assert problem in found.problem


def test_a_password_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    path = _toml(tmp_path, f'database_url = "postgresql://u:{_SECRET}@h/d"')
    assert _lint(tmp_path) == []
    path.chmod(0o644)
    (found,) = _lint(tmp_path)
    assert found.level is Level.WARNING
    assert "chmod 600" in found.problem


def test_variables_of_others_are_none_of_our_business(tmp_path: Path) -> None:
    assert _lint(tmp_path, PENSTOCK_READER_PASSWORD="x", PENSTOCK_KAFKA_PORT="1", HOME="/") == []


def test_lint_ends_with_its_code_and_says_so_to_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _toml(tmp_path, 'log_level = "loud"\nnonsense = 1\n')
    assert run(["config", "lint", "--json"]) == ExitCode.CONFIG
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert {one["key"] for one in found["findings"]} == {"log_level", "nonsense"}
    assert run(["config", "lint"]) == ExitCode.CONFIG
    assert "2 errors, 0 warnings." in capsys.readouterr().out
    assert run(["config", "show"]) == ExitCode.CONFIG
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("Look for more: `penstock config lint`.")
    assert "known: stack, kafka_bootstrap_servers" in said


def test_a_question_ends_with_its_mark(tmp_path: Path) -> None:
    _toml(tmp_path, "topic = 1\n")
    with pytest.raises(SettingsError, match=r"did you mean topics\? Look"):
        effective(tmp_path, {})


def test_a_variable_that_is_no_json_is_named(tmp_path: Path) -> None:
    (found,) = _lint(tmp_path, PENSTOCK_KAFKA_CONFIG=f'{{"sasl.password": "{_SECRET}"')
    assert (found.level, found.key, found.source) == (Level.ERROR, "PENSTOCK_KAFKA_CONFIG", "environment")
    assert "penstock.toml" not in found.problem
    assert _SECRET not in found.problem


@pytest.mark.parametrize("columns", ["60", "80", "100", ""])
def test_a_name_is_shown_whole_however_narrow_the_terminal(
    columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _toml(tmp_path, 'schema_registry_url = "http://registry.example:8081"\n')
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    assert run(["config", "show"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns or 160)
    assert {line.split()[0] for line in lines if not line.startswith(" ")} >= set(Settings.model_fields) - {
        "event_store"
    }
    (registry,) = [line for line in lines if line.startswith("schema_registry_url")]
    if columns != "60":
        assert "http://registry.example:8081" in registry


def test_only_what_was_changed_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_GROUP_ID", "mine")
    assert run(["config", "show", "--changed", "--json"]) == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)["settings"]
    assert shown["group_id"] == {"value": "mine", "source": "environment"}
    assert "timeout_seconds" not in shown
