"""Servers in containers, by the checkout's docker-compose.yml, where a Docker daemon answers."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from penstock.stack.errors import StackError

__all__ = ["Compose", "find_compose", "find_docker"]

_DAEMON_S: Final = 5.0  # a socket that nobody serves refuses at once, a stuck daemon does not
_UP_TIMEOUT_S: Final = 600  # with the images' download
_DOWN_TIMEOUT_S: Final = 120


class Compose:
    """One stack's compose project. Its services are those of docker-compose.yml."""

    def __init__(self, docker: str, file: Path, project: str) -> None:
        self._docker, self._file, self._project = docker, file, project

    def up(self, service: str, variables: Mapping[str, str]) -> None:
        """Start `service` and wait for its health check; `variables` are those that the file names."""
        self._run(["up", "--detach", "--wait", service], variables, _UP_TIMEOUT_S)

    def down(self, *, wipe: bool) -> None:
        """Stop and remove the project's containers, with `wipe` its volumes too."""
        self._run(["down", *(["--volumes"] if wipe else [])], {}, _DOWN_TIMEOUT_S)

    def logs(self, service: str) -> str:
        """The end of a service's log."""
        return self._run(["logs", "--no-color", "--tail", "25", service], {}, _DOWN_TIMEOUT_S)

    def _run(self, arguments: Sequence[str], variables: Mapping[str, str], timeout_s: float) -> str:
        argv = [
            self._docker,
            "compose",
            "--file",
            str(self._file),
            "--project-name",
            self._project,
            *arguments,
        ]
        environment = {**os.environ, **variables}
        try:
            done = subprocess.run(  # noqa: S603 - fixed program, no shell
                argv, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"docker compose {arguments[0]} took over {timeout_s:.0f} s.") from error
        if done.returncode != 0:
            end = "\n".join(f"  | {line}" for line in done.stderr.splitlines()[-15:])
            raise StackError(
                f"docker compose {' '.join(arguments)} failed:\n{end}\n"
                "To start the servers natively instead: export DOCKER_HOST=none"
            )
        return done.stdout + done.stderr


def find_compose(folder: Path) -> Compose | None:
    """The way to containers; none without compose file, docker, its compose plugin and a daemon."""
    file = folder.parent.parent / "docker-compose.yml"
    docker = find_docker() if file.exists() else None
    if docker is None or not _succeeds([docker, "compose", "version"]):
        return None
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return Compose(docker, file, f"penstock-{folder.name}-{digest}")


def find_docker() -> str | None:
    """The docker command, only where a daemon answers it."""
    docker = shutil.which("docker")
    # this asks the daemon too: the client alone exits with an error
    return docker if docker and _succeeds([docker, "version", "--format", "{{.Server.Version}}"]) else None


def _succeeds(argv: Sequence[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=_DAEMON_S, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
