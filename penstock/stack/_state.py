"""What a running stack is: kept in `.penstock/<name>/stack.json`, readable by its owner only."""

import os
import re
import secrets
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.stack._process import ProcessRecord
from penstock.stack.errors import StackError, UnknownNameError

__all__ = [
    "ROLES",
    "AppState",
    "KafkaState",
    "Mode",
    "PostgresState",
    "StackAddresses",
    "StackState",
    "find_root",
    "load",
    "save",
    "stack_folder",
]

Mode = Literal["environment", "docker", "native"]
ROLES: Final = ("owner", "worker", "reader", "retention", "registry")
_FOLDER: Final = ".penstock"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaState(_Model):
    """Where Kafka is, and what we started for it."""

    mode: Mode
    bootstrap_servers: str
    port: int | None = None
    controller_port: int | None = None
    cluster_id: str | None = None
    process: ProcessRecord | None = None
    running: bool = False  # of a container; a native server's process says it

    @property
    def started(self) -> bool:
        """Whether we started it and have not stopped it since."""
        return self.running or self.process is not None


class PostgresState(_Model):
    """Where PostgreSQL is; `urls` holds one URL for each of `ROLES` and for `admin`, with passwords."""

    mode: Mode
    urls: dict[str, str] = Field(repr=False)
    port: int | None = None
    home: Path | None = None
    password: str | None = Field(default=None, repr=False)
    durable: bool = True
    process: ProcessRecord | None = None
    running: bool = False  # of a container; a native server's process says it

    @property
    def started(self) -> bool:
        """Whether we started it and have not stopped it since."""
        return self.running or self.process is not None

    @property
    def address(self) -> str:
        """Where it is, without login and password."""
        return (self.urls.get("owner") or self.urls.get("admin") or f":{self.port}").rpartition("@")[2]


class AppState(_Model):
    """A background process of the application; `url` serves its /livez, /readyz and /metrics."""

    process: ProcessRecord
    url: str
    port: int


class StackState(_Model):
    """The file's content."""

    version: Literal[1] = 1
    name: str
    kafka: KafkaState | None = None
    postgresql: PostgresState | None = None
    apps: dict[str, AppState] = {}


class StackAddresses(_Model):
    """Addresses of a stack. URLs of roles that the stack does not know (environment mode) are the owner's."""

    name: str
    modes: dict[str, Mode]
    kafka: str | None = None
    database_url: str | None = Field(default=None, repr=False)
    admin_url: str | None = Field(default=None, repr=False)
    worker_database_url: str | None = Field(default=None, repr=False)
    reader_database_url: str | None = Field(default=None, repr=False)
    retention_database_url: str | None = Field(default=None, repr=False)
    registry_database_url: str | None = Field(default=None, repr=False)
    schema_registry_url: str | None = None

    @classmethod
    def of(cls, state: StackState) -> "StackAddresses":
        """The addresses that `state` holds."""
        postgresql, urls = state.postgresql, state.postgresql.urls if state.postgresql else {}
        modes: dict[str, Mode] = {}
        if state.kafka:
            modes["kafka"] = state.kafka.mode
        if postgresql:
            modes["postgresql"] = postgresql.mode
        return cls(
            name=state.name,
            modes=modes,
            kafka=state.kafka.bootstrap_servers if state.kafka else None,
            database_url=urls.get("owner"),
            admin_url=urls.get("admin"),
            **{f"{role}_database_url": urls.get(role, urls.get("owner")) for role in ROLES[1:]},
            schema_registry_url=state.apps["registry"].url if "registry" in state.apps else None,
        )


def find_root(start: Path | None = None) -> Path:
    """The project that holds the stacks: the nearest folder upwards with one of its marks."""
    here = (start or Path.cwd()).resolve()
    marks = (_FOLDER, ".git", "pyproject.toml", "penstock.toml")
    return next(
        (p for p in [here, *here.parents] if p != Path.home() and any((p / m).exists() for m in marks)), here
    )


def stack_folder(name: str, root: Path | None = None) -> Path:
    """The folder of the stack `name`; refuses names that would be surprising as a folder or a container."""
    if not _NAME.fullmatch(name):
        raise UnknownNameError(
            f"A stack's name is lower-case letters, digits, - and _, at most 41; {name!r} is not."
        )
    return (root or find_root()) / _FOLDER / name


def load(folder: Path) -> StackState | None:
    """The stack's state; none when it was never started (or was wiped)."""
    path = folder / "stack.json"
    try:
        return StackState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StackError(
            f"{path} is not a stack of this version of Penstock: {error.error_count()} fields do not fit. "
            f"Stop its processes by hand if there are any, then remove {folder}."
        ) from error


def save(folder: Path, state: StackState) -> None:
    """Replace the stack's state in one step; it holds passwords, so nobody else may read it."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"stack.json.{secrets.token_hex(4)}"
    with os.fdopen(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as out:
        out.write(state.model_dump_json(indent=2) + "\n")
    temporary.replace(folder / "stack.json")
