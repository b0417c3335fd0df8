"""ensure and stop: what the commands and the test fixtures call."""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, Literal, TypeVar

from penstock.stack import _native
from penstock.stack._apps import APPS, migrate, start_app, stop_app
from penstock.stack._containers import start_kafka_container, start_postgresql_container
from penstock.stack._docker import Compose, find_compose
from penstock.stack._environment import (
    check_kafka,
    check_postgresql,
    given_kafka,
    given_postgresql,
    given_registry,
)
from penstock.stack._lock import exclusive
from penstock.stack._process import is_running
from penstock.stack._state import (
    AppState,
    KafkaState,
    Mode,
    PostgresState,
    StackAddresses,
    StackState,
    load,
    save,
    stack_folder,
)
from penstock.stack.errors import StackError, UnknownNameError
from penstock.stack.progress import Progress, Step, ignore

__all__ = ["SERVERS", "addresses", "ensure", "exists", "stop"]

_Server = TypeVar("_Server", KafkaState, PostgresState)
ServerName = Literal["kafka", "postgresql"]
SERVERS: Final[tuple[ServerName, ...]] = ("kafka", "postgresql")
_LOCK_TIMEOUT_S: Final = 300.0


def ensure(
    name: str = "local",
    *,
    want: Sequence[str] = SERVERS,
    apps: Sequence[str] = (),
    root: Path | None = None,
    durable: bool = True,
    progress: Progress = ignore,
    environ: Mapping[str, str] | None = None,
) -> StackAddresses:
    """Return the addresses of servers that answer, starting what is not running.

    Each server on its own: its address in the environment, else Docker where the daemon answers, else native.
    `want` names servers (kafka, postgresql), `apps` processes of the application (registry, worker,
    retention; `want` may name them too), which are started on a migrated database and waited for.
    `durable=False` switches a native PostgreSQL's fsync off: for tests, whose data nobody misses.
    Raises StackError.
    """
    applications = {*apps, *want} - set(SERVERS)
    unknown = applications - set(APPS)
    if unknown:
        known = ", ".join((*SERVERS, *APPS))
        raise UnknownNameError(f"The stack has no {', '.join(sorted(unknown))}; it has {known}.")
    folder = stack_folder(name, root)
    with _locked(folder):
        starter = _Starter(folder, progress, os.environ if environ is None else environ, durable=durable)
        found = starter.servers([server for server in SERVERS if server in want])
        return starter.applications(applications, found)


def stop(
    name: str = "local", *, wipe: bool = False, root: Path | None = None, progress: Progress = ignore
) -> bool:
    """End what `ensure` started, only that; `wipe` removes its data. False when nothing was running."""
    folder = stack_folder(name, root)
    with _locked(folder):
        kept = _Kept(folder)
        stopped = False
        for app, process in reversed(kept.state.apps.items()):  # the registry last, as the others use it
            ended = stop_app(process)
            _tell(progress, app, process.url, ended)
            stopped |= ended
        kept.update(apps={})
        stopped |= _stop_servers(kept, progress, folder, wipe=wipe)
        if wipe:
            if kept.state.postgresql and kept.state.postgresql.home:
                shutil.rmtree(kept.state.postgresql.home, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
    return stopped


def exists(name: str = "local", *, root: Path | None = None) -> bool:
    """Whether there is something of it here, running or not: data, logs."""
    return stack_folder(name, root).is_dir()


def addresses(name: str = "local", *, root: Path | None = None) -> StackAddresses | None:
    """What the stack's file says, without asking the servers; none when there is none or it is stopped."""
    state = load(stack_folder(name, root))
    if state is None:
        return None
    running = StackState(
        name=state.name,
        kafka=state.kafka if state.kafka and state.kafka.started else None,
        postgresql=state.postgresql if state.postgresql and state.postgresql.started else None,
        apps={app: process for app, process in state.apps.items() if is_running(process.process)},
    )
    return StackAddresses.of(running) if running.kafka or running.postgresql or running.apps else None


class _Kept:
    """The state on disk, updated by the threads that start the servers."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, Lock()
        self.state = load(folder) or StackState(name=folder.name)

    def kafka(self, server: KafkaState) -> None:
        self.update(kafka=server)

    def postgresql(self, server: PostgresState) -> None:
        self.update(postgresql=server)

    def app(self, name: str, process: AppState) -> None:
        self.update(apps={**self.state.apps, name: process})

    def update(self, **change: object) -> None:
        with self._lock:
            self.state = self.state.model_copy(update=change)
            save(self._folder, self.state)


class _Starter:
    """One call of `ensure`."""

    def __init__(
        self, folder: Path, progress: Progress, environ: Mapping[str, str], *, durable: bool
    ) -> None:
        self._folder, self._progress, self._environ, self._durable = folder, progress, environ, durable
        self._kept = _Kept(folder)

    def servers(self, want: Sequence[ServerName]) -> StackState:
        """Start or find them, at the same time; the state returned also holds those of the environment."""
        starts: dict[ServerName, Callable[[], KafkaState | PostgresState]] = {
            "kafka": self._kafka,
            "postgresql": self._postgresql,
        }
        with ThreadPoolExecutor(max_workers=len(starts), thread_name_prefix="penstock-stack") as pool:
            futures = {server: pool.submit(starts[server]) for server in want}
        return self._kept.state.model_copy(update={server: f.result() for server, f in futures.items()})

    def applications(self, wanted: Collection[str], servers: StackState) -> StackAddresses:
        """Migrate the database and start the processes, in the order of `APPS`."""
        found = StackAddresses.of(servers)
        registry = given_registry(self._environ)
        found = found.model_copy(update={"schema_registry_url": registry} if registry else {})
        if wanted and found.database_url:
            self._reporter("postgresql")("migrating the database")
            migrate(found.database_url)
        for app in (name for name in APPS if name in wanted):
            if app == "registry" and registry:
                continue
            process = start_app(app, self._folder, self._kept.state.apps.get(app), found, self._reporter(app))
            self._kept.app(app, process)
            self._progress(Step(server=app, state="ready", text=process.url))
            if app == "registry":
                found = found.model_copy(update={"schema_registry_url": process.url})
        return found

    def _kafka(self) -> KafkaState:
        report, old = self._reporter("kafka"), self._kept.state.kafka
        server = given_kafka(self._environ)
        if server:
            check_kafka(server, self._environ)
        elif compose := self._compose(old):
            server = start_kafka_container(compose, _of_mode(old, "docker"), self._kept.kafka, report)
        else:
            server = _native.start_kafka(self._folder, _of_mode(old, "native"), self._kept.kafka, report)
        self._progress(
            Step(server="kafka", state="ready", text=f"{server.bootstrap_servers} ({server.mode})")
        )
        return server

    def _postgresql(self) -> PostgresState:
        report, old = self._reporter("postgresql"), self._kept.state.postgresql
        server = given_postgresql(self._environ)
        if server:
            check_postgresql(server)
        elif compose := self._compose(old):
            server = start_postgresql_container(
                compose, _of_mode(old, "docker"), self._kept.postgresql, report
            )
        else:
            server = _native.start_postgresql(
                self._folder, _of_mode(old, "native"), self._kept.postgresql, report, durable=self._durable
            )
        self._progress(Step(server="postgresql", state="ready", text=f"{server.address} ({server.mode})"))
        return server

    def _compose(self, old: KafkaState | PostgresState | None) -> Compose | None:
        """Docker comes before native, but a stack whose data is native stays native."""
        return None if old and old.mode == "native" else find_compose(self._folder)

    def _reporter(self, server: str) -> Callable[[str], None]:
        return lambda text: self._progress(Step(server=server, state="working", text=text))


def _stop_servers(kept: _Kept, progress: Progress, folder: Path, *, wipe: bool) -> bool:
    stopped = False
    kafka, postgresql = kept.state.kafka, kept.state.postgresql
    if any(server and server.mode == "docker" and (server.started or wipe) for server in (kafka, postgresql)):
        compose = find_compose(folder)
        if compose is None:
            raise StackError(
                f"The stack {folder.name!r} runs in Docker, but no daemon answers: start it, then try again."
            )
        compose.down(wipe=wipe)
    if kafka:
        ended = _native.stop_kafka(kafka) or kafka.running
        kept.kafka(kafka.model_copy(update={"process": None, "running": False}))
        _tell(progress, "kafka", kafka.bootstrap_servers, ended)
        stopped |= ended
    if postgresql:
        ended = _native.stop_postgresql(postgresql) or postgresql.running
        kept.postgresql(postgresql.model_copy(update={"process": None, "running": False}))
        _tell(progress, "postgresql", postgresql.address, ended)
        stopped |= ended
    return stopped


def _tell(progress: Progress, server: str, address: str, ended: bool) -> None:
    if ended:
        progress(Step(server=server, state="stopped", text=address))


def _of_mode(old: _Server | None, mode: Mode) -> _Server | None:
    return old if old and old.mode == mode else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = folder.with_name(f"{folder.name}.lock")  # beside the folder, which --wipe removes
    with exclusive(lock, timeout_s=_LOCK_TIMEOUT_S, what=f"the stack {folder.name!r}"):
        yield
