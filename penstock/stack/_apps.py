"""The application's own processes, in the background: schema registry, worker, retention worker."""

import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from penstock.stack._ports import HOST, free_port
from penstock.stack._process import is_running, spawn, terminate
from penstock.stack._readiness import wait_ready
from penstock.stack._state import AppState, StackAddresses

__all__ = ["APPS", "app_answers", "migrate", "start_app", "stop_app"]

# Command line of each, before the port. The registry comes first: the others need it.
APPS: Final[Mapping[str, tuple[str, ...]]] = {
    "registry": ("registry", "--host", HOST, "--port"),
    "worker": ("worker", "--metrics-port"),
    "retention": ("retention", "worker", "--metrics-port"),
}
_READY_TIMEOUT_S: Final = 60.0
_PROBE_S: Final = 3.0
_STOP_GRACE_S: Final = 30.0  # a worker finishes or rolls back its batch


def migrate(database_url: str) -> None:
    """Bring the database to the newest revision. Raises penstock_store's MigrationError."""
    from penstock_store import migrations  # SQLAlchemy is slow to import and `down` needs none of it

    migrations.upgrade(database_url)


def start_app(
    name: str, folder: Path, old: AppState | None, addresses: StackAddresses, report: Callable[[str], None]
) -> AppState:
    """Start `name`, or return `old` where it runs and is ready. Raises StackError with its log's end."""
    if old and is_running(old.process) and app_answers(old):
        return old
    if old:
        stop_app(old)
    report("starting")
    port = free_port()
    log = folder / "logs" / f"{name}.log"
    if log.exists():
        shutil.move(log, log.with_suffix(".log.1"))
    process = spawn(
        [sys.executable, "-m", "penstock", *APPS[name], str(port)],
        log=log,
        cwd=folder.parent.parent,
        env={**os.environ, **_environment(addresses)},
    )
    state = AppState(process=process, url=f"http://{HOST}:{port}", port=port)
    report("waiting until it is ready")
    try:
        wait_ready(
            lambda: app_answers(state),
            server=f"penstock {APPS[name][0]} (port {port})",
            process=process,
            logs=(log,),
            timeout_s=_READY_TIMEOUT_S,
        )
    except BaseException:
        stop_app(state)
        raise
    return state


def stop_app(app: AppState) -> bool:
    """SIGTERM, then SIGKILL; false when it was not running."""
    return terminate(app.process, signals=(signal.SIGTERM,), grace_s=_STOP_GRACE_S)


def app_answers(app: AppState) -> bool:
    """Whether /readyz says 200."""
    try:
        with urllib.request.urlopen(f"{app.url}/readyz", timeout=_PROBE_S) as answer:  # noqa: S310 - our own URL
            return int(answer.status) == 200
    except (OSError, urllib.error.URLError):
        return False


def _environment(addresses: StackAddresses) -> dict[str, str]:
    """The stack's addresses as settings: the environment comes before penstock.toml and any stack's file."""
    values = {
        "PENSTOCK_STACK": addresses.name,
        "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": addresses.kafka,
        "PENSTOCK_DATABASE_URL": addresses.database_url,
        "PENSTOCK_WORKER_DATABASE_URL": addresses.worker_database_url,
        "PENSTOCK_READER_DATABASE_URL": addresses.reader_database_url,
        "PENSTOCK_RETENTION_DATABASE_URL": addresses.retention_database_url,
        "PENSTOCK_REGISTRY_DATABASE_URL": addresses.registry_database_url,
        "PENSTOCK_SCHEMA_REGISTRY_URL": addresses.schema_registry_url,
    }
    return {name: value for name, value in values.items() if value}
