"""The programs that native servers need: found where systems put them, installed by apt for root."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

from penstock.stack.errors import MissingRequirementError

__all__ = [
    "find_java",
    "find_maven",
    "find_postgresql",
    "require_java",
    "require_maven",
    "require_postgresql",
]

Report = Callable[[str], None]

_MINIMUM_JAVA: Final = 17  # Kafka 4 brokers, KIP-1013
_APT_TIMEOUT_S: Final = 600
_APT: Final = Lock()
_NO_CLUSTER: Final = Path("/etc/postgresql-common/createcluster.d/penstock.conf")
_POSTGRESQL_FOLDERS: Final = (
    ("/usr/lib/postgresql", "*/bin"),  # Debian, Ubuntu
    ("/usr", "pgsql-*/bin"),  # Red Hat, PGDG
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
    ("/Applications/Postgres.app/Contents/Versions", "*/bin"),
)


def find_postgresql() -> Path | None:
    """The newest folder that holds both `initdb` and `postgres`."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for root, pattern in _POSTGRESQL_FOLDERS:
        folders.extend(sorted(Path(root).glob(pattern), key=_version, reverse=True))
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def find_java() -> tuple[Path, int] | None:
    """The `java` to use and its major version; JAVA_HOME comes first."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    found = [java for java in [*candidates, shutil.which("java")] if java and Path(java).exists()]
    versions = [(Path(java), _java_version(java)) for java in found]
    return next((v for v in versions if v[1] >= _MINIMUM_JAVA), versions[0] if versions else None)


def find_maven() -> Path | None:
    """The `mvn` to use."""
    found = shutil.which("mvn")
    return Path(found) if found else None


def require_postgresql(report: Report) -> Path:
    """The folder of PostgreSQL's programs; installs them when root on a system with apt."""
    if find_postgresql() is None:
        _install_postgresql(report)
    return find_postgresql() or _refuse(
        "PostgreSQL's programs (initdb, postgres) were", "postgresql", "PENSTOCK_DATABASE_URL"
    )


def require_java(report: Report) -> Path:
    """A Java runtime of version 17 or newer."""
    found = find_java()
    if found is None or found[1] < _MINIMUM_JAVA:
        _apt_install(f"Java {_MINIMUM_JAVA}", ["default-jre-headless"], report)
        found = find_java()
    if found is None:
        return _refuse(
            f"Java {_MINIMUM_JAVA} or newer was",
            "default-jre-headless",
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS",
        )
    if found[1] < _MINIMUM_JAVA:
        raise MissingRequirementError(
            f"Kafka needs Java {_MINIMUM_JAVA} or newer; {found[0]} is version {found[1] or 'unknown'}. "
            f"Install a newer one, or point JAVA_HOME at it."
        )
    return found[0]


def require_maven(report: Report) -> Path:
    """Maven, which fetches Kafka's jars."""
    if find_maven() is None:
        _apt_install("Maven", ["maven"], report)
    return find_maven() or _refuse(
        "Maven (mvn), which fetches Kafka's jars, was", "maven", "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS"
    )


def _refuse(what: str, package: str, variable: str) -> Path:
    raise MissingRequirementError(
        f"{what} not found, no address is given and no Docker daemon answers. Do one of these:\n"
        f"  - install it: sudo apt-get install {package}   (other systems: its package of the same purpose)\n"
        f"  - start Docker\n"
        f"  - give the address of a server: export {variable}=…"
    )


def _install_postgresql(report: Report) -> None:
    """Debian's package makes a cluster on port 5432 and starts it, which nobody asked for here."""
    _apt_install("PostgreSQL's common files", ["postgresql-common"], report)
    if not _NO_CLUSTER.parent.parent.exists():
        return
    _NO_CLUSTER.parent.mkdir(exist_ok=True)
    _NO_CLUSTER.write_text("create_main_cluster = false\n", encoding="ascii")
    try:
        _apt_install("PostgreSQL (initdb, postgres)", ["postgresql"], report)
    finally:
        _NO_CLUSTER.unlink()  # whoever installs another version later gets what Debian documents


def _apt_install(what: str, packages: list[str], report: Report) -> None:
    """Install as root with apt; elsewhere do nothing, so that the caller says what is missing."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _APT:  # Kafka's and PostgreSQL's threads may both need it
        report(f"installing {what} with apt-get")
        _run_apt(["apt-get", "update", "-q"], env, what)
        options = ["-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
        _run_apt(["apt-get", "install", *options, *packages], env, what)


def _run_apt(argv: list[str], env: dict[str, str], what: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed program, no shell
            argv, env=env, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingRequirementError(
            f"Installing {what}: {' '.join(argv)} took over {_APT_TIMEOUT_S} s."
        ) from error
    if done.returncode != 0:
        end = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-10:])
        raise MissingRequirementError(f"Installing {what} failed: {' '.join(argv)} said\n{end}")


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", str(folder)))


def _java_version(java: str) -> int:
    """The major version; 0 when the program cannot be run."""
    try:
        text = subprocess.run(  # noqa: S603
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else 0
