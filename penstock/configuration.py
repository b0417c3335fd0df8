"""What the settings are, where each came from, and what is wrong with them. Talks to no server."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from penstock.errors import PenstockError, SettingsError
from penstock.redaction import masked, redact
from penstock.settings import FILE, Settings, SettingsLayers, faults_of, read_layers, settings_of

__all__ = ["Finding", "Level", "Shown", "effective", "lint"]

_LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting in a form that may be printed."""

    name: str
    value: Any
    source: str  # environment, penstock.toml, the stack's file, default, or another setting's name
    meaning: str


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one key, or one variable, and what to do."""

    level: Level
    key: str
    source: str
    problem: str


def effective(root: Path | None = None, environ: Mapping[str, str] | None = None) -> list[Shown]:
    """Every setting with its source, secrets masked; the event store's last. Raises `SettingsError`."""
    layers = read_layers(root=root, environ=environ)
    settings = settings_of(layers)
    shown = [
        Shown(name, value, layers.source(name), Settings.model_fields[name].description or "")
        for name, value in settings.shown().items()
        if name != "event_store"
    ]
    return shown + _event_store(layers, os.environ if environ is None else environ)


def _event_store(layers: SettingsLayers, environ: Mapping[str, str]) -> list[Shown]:
    from penstock_store.configuration import read_configuration

    found = read_configuration(layers.file, environ, file=FILE)
    if found.backend is None:
        return [Shown("event_store.backend", None, "default", "the backend of event_store_from_config")]
    name = found.backend.value
    shown = [
        Shown("event_store.backend", name, found.backend.source, "the backend of event_store_from_config")
    ]
    for one in found.settings:
        value = masked({one.name: one.value})[one.name]
        known = value is None or isinstance(value, str | int | float | bool)
        shown.append(Shown(f"event_store.{name}.{one.name}", value if known else str(value), one.source, ""))
    return shown


def lint(root: Path | None = None, environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Errors first. An error means that commands, or the event store, would not start."""
    given = os.environ if environ is None else environ
    try:
        layers = read_layers(root=root, environ=environ)
    except SettingsError as error:
        key, source = (error.variable, "environment") if error.variable else (FILE, "file")
        return [Finding(Level.ERROR, key, source, str(error))]
    except PenstockError as error:
        return [Finding(Level.ERROR, "stack", "the stack's file", str(error))]
    found = [Finding(Level.ERROR, *fault) for fault in faults_of(layers)]
    found += _store_faults(layers, given)
    found += _misspelt(given)
    if not any(finding.level is Level.ERROR for finding in found):
        found += _secrets(settings_of(layers), layers)
    return sorted(found, key=lambda finding: finding.level is Level.WARNING)


def _store_faults(layers: SettingsLayers, environ: Mapping[str, str]) -> Iterator[Finding]:
    from penstock_store.configuration import read_configuration
    from penstock_store.errors import StoreError

    found = read_configuration(layers.file, environ, file=FILE)
    for fault in found.faults:
        yield Finding(Level.ERROR, fault.key, fault.source, redact(fault.problem))
    if found.backend is not None and not found.faults:
        try:
            found.create()  # checks what only the backend knows; connects to nothing
        except StoreError as error:
            key = f"event_store.{found.backend.value}"
            yield Finding(Level.ERROR, key, found.backend.source, redact(str(error)))


def _misspelt(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like a setting and are none; others are other programs'."""
    known = [name.upper() for name in Settings.model_fields if name != "event_store"]
    for variable in sorted(environ):
        name = variable.removeprefix("PENSTOCK_")
        if name == variable or name in known or name.startswith("EVENT_STORE_"):
            continue
        for close in get_close_matches(name, known, 1, 0.85):
            problem = f"is no setting and changes nothing; did you mean PENSTOCK_{close}?"
            yield Finding(Level.WARNING, variable, "environment", problem)


def _secrets(settings: Settings, layers: SettingsLayers) -> Iterator[Finding]:
    if (settings.registry_user is None) is not (settings.registry_password is None):
        key = "registry_password" if settings.registry_password is None else "registry_user"
        yield Finding(Level.ERROR, key, "nowhere", "is missing: set both registry_user and registry_password")
    kafka = {name.lower(): value for name, value in settings.kafka_config.items()}
    if str(kafka.get("security.protocol", "")).lower().startswith("sasl"):
        mechanism = str(kafka.get("sasl.mechanism", kafka.get("sasl.mechanisms", "GSSAPI"))).upper()
        wanted = ("sasl.username", "sasl.password") if mechanism.startswith(("PLAIN", "SCRAM")) else ()
        for name in wanted:
            if name not in kafka:
                problem = f"has no {name}, which {mechanism} needs"
                yield Finding(Level.ERROR, "kafka_config", layers.source("kafka_config"), problem)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if not isinstance(value, SecretStr):
            continue
        if found := _of_url(value.get_secret_value()):
            level, said = found
            yield Finding(level, name, layers.source(name), said)
    yield from _readable_file(layers)


def _of_url(text: str) -> tuple[Level, str] | None:
    from penstock_store.dsn import normalise_dsn
    from penstock_store.errors import InvalidDsn

    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.startswith("postgres"):
        return None
    try:
        parts = urlsplit(normalise_dsn(text))
    except InvalidDsn as error:
        return Level.ERROR, f"cannot be used: {error}"
    known = parts.password or os.environ.get("PGPASSWORD") or "password=" in parts.query
    if known or parts.hostname in _LOCAL:
        return None
    return (
        Level.WARNING,
        "has no password: the login must come by another way (~/.pgpass, PGPASSWORD, a certificate)",
    )


def _readable_file(layers: SettingsLayers) -> Iterator[Finding]:
    if not layers.file:
        return
    text = layers.path.read_text("utf-8")
    if redact(text) == text:
        return
    mode = stat.S_IMODE(layers.path.stat().st_mode)
    if mode & 0o044:
        problem = (
            f"holds a password and others may read it (mode {mode:o}); chmod 600, or use the environment"
        )
        yield Finding(Level.WARNING, FILE, FILE, problem)
