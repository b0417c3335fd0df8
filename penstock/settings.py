"""Every setting of the application and the one place that reads the environment.

Order: command-line option, environment (`PENSTOCK_…`), `penstock.toml`, the running local stack
(`.penstock/<name>/stack.json`), built-in localhost defaults. `Settings(...)` itself reads nothing: tests and
embedders construct it; commands call `load_settings`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from penstock._stack_file import stack_values
from penstock.errors import SettingsError
from penstock.redaction import masked, redact
from penstock_store.leaf_indexes import chosen_indexes

__all__ = [
    "FILE",
    "DatabaseRole",
    "Settings",
    "SettingsLayers",
    "faults_of",
    "load_settings",
    "read_layers",
    "settings_of",
]

FILE = "penstock.toml"
_EVENT_STORE = "penstock_event_store"
# With one of these given, a stack that was named need not run: its servers may all be other people's.
_ADDRESSES = frozenset({
    "kafka_bootstrap_servers",
    "database_url",
    "worker_database_url",
    "retention_database_url",
    "reader_database_url",
    "registry_database_url",
    "schema_registry_url",
})  # fmt: skip


class DatabaseRole(StrEnum):
    """Who connects. A login for each kind of process: its privileges bound what it can break."""

    OWNER = "owner"
    WORKER = "worker"
    RETENTION = "retention"
    READER = "reader"
    REGISTRY = "registry"


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """Validated settings; frozen. URLs are `SecretStr`: ask `database()` for one that can be connected to."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    stack: str = Field(
        default="local", pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$", description="name of the local stack"
    )
    kafka_bootstrap_servers: str = Field(
        default="localhost:9092", min_length=1, description="host:port, comma separated"
    )
    kafka_config: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        repr=False,
        description="more librdkafka settings, such as TLS and SASL, as JSON",
    )
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://localhost:5432/penstock"),
        description="the owner's; migrations use it",
    )
    worker_database_url: SecretStr | None = Field(
        default=None, description="the worker's login; else database_url"
    )
    retention_database_url: SecretStr | None = Field(default=None, description="the retention worker's login")
    reader_database_url: SecretStr | None = Field(default=None, description="the login of queries")
    registry_database_url: SecretStr | None = Field(default=None, description="the schema registry's login")
    registry_user: str | None = Field(
        default=None, min_length=1, description="basic authentication that `penstock registry` demands"
    )
    registry_password: SecretStr | None = Field(default=None, description="its password; set both or none")
    schema_registry_url: SecretStr = Field(
        default=SecretStr("http://localhost:8081"), description="any compatible one"
    )
    topics: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=("events",), min_length=1, description="topics to ingest, comma separated"
    )
    group_id: str = Field(default="penstock", min_length=1, description="the workers' consumer group")
    dedupe_window_hours: float = Field(
        default=24.0, gt=0, le=24 * 366, description="a key is stored once within it"
    )
    indexes: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)] = Field(
        default=None,
        description="of partitions to come: full, lean or some, comma separated; unset: as they are",
    )
    retain_days: float | None = Field(
        default=None, gt=0, description="drop whole partitions older than this; unset: never"
    )
    timeout_seconds: float = Field(
        default=10.0, gt=0, le=600, description="deadline of one request to a server"
    )
    event_store: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="backend and settings of the event store, as a table; see penstock_store.configuration",
    )
    metrics_host: str = Field(default="127.0.0.1", description="address of /metrics, /livez and /readyz")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe shown"
    )

    @field_validator("database_url", "worker_database_url", "retention_database_url", "reader_database_url",
                     "registry_database_url")  # fmt: skip
    @classmethod
    def _postgresql_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
            raise ValueError("must be a URL that starts with postgresql://")
        return SecretStr(f"postgresql://{rest}")  # asyncpg and libpq refuse SQLAlchemy's spelling

    @field_validator("indexes")
    @classmethod
    def _known_indexes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else chosen_indexes(value)

    @field_validator("schema_registry_url")
    @classmethod
    def _http_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must be a URL that starts with http:// or https://")
        return value

    @model_validator(mode="after")
    def _servers_named_once(self) -> Self:
        if "bootstrap.servers" in self.kafka_config:
            raise ValueError("kafka_config must not hold bootstrap.servers; kafka_bootstrap_servers says it")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments: `load_settings` is what reads the environment and the files."""
        return (init_settings,)

    def database(self, role: DatabaseRole = DatabaseRole.OWNER) -> str:
        """The URL to connect with as `role`, password included: never log it."""
        own = None if role is DatabaseRole.OWNER else getattr(self, f"{role}_database_url")
        secret: SecretStr = own or self.database_url
        return secret.get_secret_value()

    def registry(self) -> str:
        """The schema registry's URL, credentials included: never log it."""
        return self.schema_registry_url.get_secret_value()

    def kafka(self, **more: str | int | float | bool) -> dict[str, str | int | float | bool]:
        """librdkafka settings; `more` wins and is written with underscores for dots. Never log it."""
        named = {name.replace("_", "."): value for name, value in more.items()}
        return {"bootstrap.servers": self.kafka_bootstrap_servers, **self.kafka_config, **named}

    def shown(self) -> dict[str, object]:
        """Every setting in a form that may be printed: passwords masked."""
        shown: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = redact(value.get_secret_value()) if "://" in value.get_secret_value() else "***"
            shown[name] = masked(value) if isinstance(value, dict) else value
        return shown


@dataclass(frozen=True, slots=True)
class SettingsLayers:
    """What each source says, the strongest first. `path`: of the file, which need not be there."""

    path: Path
    by_source: Mapping[str, Mapping[str, Any]]

    @property
    def file(self) -> Mapping[str, Any]:
        """What penstock.toml says."""
        return self.by_source[FILE]

    def source(self, name: str) -> str:
        """Where the setting's value comes from."""
        return next((source for source, values in self.by_source.items() if name in values), "default")

    def merged(self) -> dict[str, Any]:
        """The value of each setting that somebody gave."""
        merged: dict[str, Any] = {}
        for layer in self.by_source.values():
            merged = {**layer, **merged}
        return merged


def load_settings(
    *,
    root: Path | None = None,
    environ: Mapping[str, str] | None = None,
    servers: bool = True,
    **options: Any,
) -> Settings:
    """Resolve the settings by the documented order; options that are `None` were not given.

    `root` is the folder of `penstock.toml` and `.penstock/` (default: the project around the working folder),
    `environ` stands in for the process's environment in tests; without `servers` no stack's file is read.
    Raises `SettingsError`, which says for each wrong key where it was read, and `StackError`, also where the
    stack that an option or the environment names is not running and no other address is given.
    """
    return settings_of(read_layers(root=root, environ=environ, servers=servers, **options))


def read_layers(
    *,
    root: Path | None = None,
    environ: Mapping[str, str] | None = None,
    servers: bool = True,
    **options: Any,
) -> SettingsLayers:
    """What each source says, unchecked. Raises as `load_settings`, where a source cannot be read."""
    path = (_project() if root is None else root) / FILE
    given = {name: value for name, value in options.items() if value is not None}
    layers: dict[str, Mapping[str, Any]] = {"option": given}
    layers["environment"] = _from_environment(environ)
    try:
        layers[FILE] = TomlConfigSettingsSource(Settings, path)()
    except (OSError, ValueError) as error:  # unreadable file; TOML syntax
        raise SettingsError(redact(f"The settings cannot be read: {error}. Correct {path}.")) from None
    if servers:
        named = {**layers[FILE], **layers["environment"], **given}
        asked = "stack" in given or "stack" in layers["environment"]
        needed = asked and named.keys().isdisjoint(_ADDRESSES)
        found = stack_values(str(named.get("stack", "local")), path.parent, needed=needed)
        if "database_url" in named:  # the stack's logins are for its own database
            found = {name: value for name, value in found.items() if not name.endswith("database_url")}
        layers["the stack's file"] = found
    return SettingsLayers(path, layers)


def settings_of(layers: SettingsLayers) -> Settings:
    """Raises `SettingsError`, which names each wrong key and where it was read."""
    try:
        return Settings(**layers.merged())
    except ValidationError as error:
        lines = "; ".join(
            f"{key} (from {source}): {problem}" for key, source, problem in _faults(error, layers)
        )
    # outside of the block: the cause's text may hold the value
    end = "" if lines.endswith("?") else "."
    raise SettingsError(f"The settings are wrong. {lines}{end} Look for more: `penstock config lint`.")


def faults_of(layers: SettingsLayers) -> list[tuple[str, str, str]]:
    """Each wrong key, as it is spelt there, its source, and what is wrong with it."""
    try:
        Settings(**layers.merged())
    except ValidationError as error:
        return _faults(error, layers)
    return []


def _project() -> Path:
    from penstock.stack import find_root  # see _stack_file

    return find_root()


def _from_environment(environ: Mapping[str, str] | None) -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    if environ is not None:
        source.env_vars = {name.lower(): value for name, value in environ.items()}
    # Its variables are PENSTOCK_EVENT_STORE_…, one for each setting: the store reads them.
    source.env_vars = {name: value for name, value in source.env_vars.items() if name != _EVENT_STORE}
    try:
        return {name: value for name, value in source().items() if value != ""}
    except ValueError as error:
        named = re.search(r'field "(\w+)"', str(error))
        variable = f"PENSTOCK_{named[1].upper()}" if named else "PENSTOCK_…"
    # outside of the block: the cause's text holds the value
    raise SettingsError(f"{variable} in the environment is no JSON. Correct it.", variable)


def _faults(error: ValidationError, layers: SettingsLayers) -> list[tuple[str, str, str]]:
    found = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        key = str(fault["loc"][0]) if fault["loc"] else "settings"
        source = layers.source(key)
        spelt = f"PENSTOCK_{key.upper()}" if source == "environment" else key
        problem = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            close = get_close_matches(key, list(Settings.model_fields), 1)
            known = f"did you mean {close[0]}?" if close else f"known: {', '.join(Settings.model_fields)}"
            problem = f"unknown key; {known}"
        found.append((spelt, source, problem))
    return found
