"""A PostgreSQL server of our own: initdb, start, stop. It listens on loopback only, with passwords."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from penstock.stack._ports import HOST
from penstock.stack._process import ProcessRecord, forget, spawn, terminate
from penstock.stack._readiness import postgresql_answers, wait_ready
from penstock.stack._requirements import require_postgresql
from penstock.stack.errors import ServerStartError, StackError

__all__ = ["SUPERUSER", "PostgresServer", "data_home", "postgres_url"]

SUPERUSER: Final = "postgres"
_INITDB_TIMEOUT_S: Final = 120
_START_TIMEOUT_S: Final = 60
_STOP_GRACE_S: Final = 20.0
_SHARED_HOME: Final = Path(
    "/var/lib/penstock"
)  # for root's servers when the checkout is closed to other users

# Tests run dozens of pools at once; PostgreSQL's default of 100 connections is not enough.
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# For data that nobody misses when the machine crashes. A crash of the server alone loses nothing, as COMMIT
# hands its log to the kernel; with synchronous_commit off it would (seen).
_THROW_AWAY: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """One server's place and settings; `durable=False` trades safety in a machine's crash for speed."""

    home: Path
    log: Path
    port: int
    password: str = field(repr=False)
    durable: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    def url(self, database: str = "postgres") -> str:
        """The superuser's URL."""
        return postgres_url(SUPERUSER, self.password, self.port, database)

    def start(
        self, report: Callable[[str], None], spawned: Callable[[ProcessRecord], None] = forget
    ) -> ProcessRecord:
        """Make the data directory where there is none, start the server and wait until it answers a query.

        `spawned` is told of the process before that wait, so that it can be ended whatever happens meanwhile.
        """
        programs = require_postgresql(report)
        if not (self.data / "PG_VERSION").exists():
            report("creating its data directory")
            self._initialise(programs)
        self._check_version(programs)
        report("starting")
        options = {
            **_SETTINGS,
            **({} if self.durable else _THROW_AWAY),
            **self.settings,
            "port": str(self.port),
        }
        user, group = _account()
        process = spawn(
            [str(programs / "postgres"), "-D", str(self.data), *(f"--{k}={v}" for k, v in options.items())],
            log=self.log,
            cwd=self.data,
            env=_clean_environment(),
            user=user,
            group=group,
        )
        spawned(process)
        report("waiting for an answer")
        try:
            wait_ready(
                lambda: postgresql_answers(self.url()),
                server=f"PostgreSQL (port {self.port})",
                process=process,
                logs=(self.log,),
                timeout_s=_START_TIMEOUT_S,
            )
        except BaseException:
            self.stop(process)
            raise
        return process

    @staticmethod
    def stop(process: ProcessRecord) -> bool:
        """Fast shutdown (SIGINT: clients are disconnected), then immediate, then SIGKILL."""
        return terminate(process, signals=(signal.SIGINT, signal.SIGQUIT), grace_s=_STOP_GRACE_S)

    def wipe(self) -> None:
        """Remove the data."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _initialise(self, programs: Path) -> None:
        user, group = _account()
        self.wipe()
        self.home.mkdir(parents=True, mode=0o700)
        secret = self.home / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password, encoding="ascii")
        if user is not None and group is not None:
            os.chown(self.home, user, group)
            os.chown(secret, user, group)
        argv = [
            str(programs / "initdb"),
            "-D",
            str(self.data),
            f"--username={SUPERUSER}",
            f"--pwfile={secret}",
        ]
        argv += [
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8" if _has_c_utf8() else "--locale=C",
        ]
        argv += [] if self.durable else ["--no-sync"]
        try:
            done = subprocess.run(  # noqa: S603 - fixed program, no shell
                argv,
                cwd=self.home,
                env=_clean_environment(),
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
                capture_output=True,
                text=True,
                timeout=_INITDB_TIMEOUT_S,
                check=False,
            )
        finally:
            secret.unlink()
        if done.returncode != 0:
            end = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
            self.wipe()
            raise ServerStartError(f"initdb could not make {self.data}:\n{end}")

    def _check_version(self, programs: Path) -> None:
        """The server refuses another major version's data; say so before, with the way out."""
        made_by = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        answer = subprocess.run(  # noqa: S603
            [str(programs / "postgres"), "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        if f" {made_by}." not in answer and not answer.split()[2].startswith(made_by):
            raise StackError(
                f"{self.data} was made by PostgreSQL {made_by}, but {programs} holds {answer.strip()}. "
                "Install that version, or give the data up: penstock down --wipe"
            )


def postgres_url(user: str, password: str, port: int, database: str, host: str = HOST) -> str:
    """A libpq URL; user, password and database are escaped."""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{login}@{host}:{port}/{quote(database, safe='')}"


def data_home(wanted: Path, key: str) -> Path:
    """`wanted`, or a folder under /var/lib when the server's user cannot reach it (a checkout in /root)."""
    user, group = _account()
    if user is None:
        return wanted
    existing = next(p for p in [wanted, *wanted.parents] if p.exists())
    reachable = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", 'cd "$0"', str(existing)],
        user=user,
        group=group,
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    return wanted if reachable.returncode == 0 else _SHARED_HOME / key


def _account() -> tuple[int | None, int | None]:
    """Whom to run the server as: PostgreSQL refuses root, so root lends it an account without rights."""
    if os.geteuid() != 0:
        return None, None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise StackError(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as."
    )


def _clean_environment() -> dict[str, str]:
    """Our environment without PG* variables, which would redirect the server, and without secrets of ours."""
    kept = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": "/"}


def _has_c_utf8() -> bool:
    import locale

    previous = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, previous)
    return True
