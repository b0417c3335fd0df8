"""Asking a stack how it is. Starts and changes nothing."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from penstock.stack._apps import app_answers
from penstock.stack._environment import given_kafka, given_postgresql, kafka_config
from penstock.stack._process import ProcessRecord, is_running
from penstock.stack._readiness import kafka_answers, postgresql_answers
from penstock.stack._state import Mode, StackState, load, stack_folder

__all__ = ["ServerStatus", "StackStatus", "status"]

_ANSWER_S: Final = 3.0


class ServerStatus(BaseModel):
    """One server or application process, as asked just now: `answers` is what counts.

    `running` is about our own processes and containers; it is true of an address from the environment.
    """

    model_config = ConfigDict(frozen=True)

    server: str
    mode: Mode
    address: str
    running: bool
    answers: bool
    pid: int | None = None
    log: Path | None = None


class StackStatus(BaseModel):
    """All of a stack; `servers` is empty where nothing was started and no address is given."""

    model_config = ConfigDict(frozen=True)

    name: str
    folder: Path
    servers: tuple[ServerStatus, ...]

    @property
    def ready(self) -> bool:
        """Whether there is something, and all of it answers."""
        return bool(self.servers) and all(server.answers for server in self.servers)


def status(
    name: str = "local", *, root: Path | None = None, environ: Mapping[str, str] | None = None
) -> StackStatus:
    """Ask every server and process of the stack. Raises StackError where its file is unreadable."""
    environ = os.environ if environ is None else environ
    folder = stack_folder(name, root)
    state = load(folder) or StackState(name=name)
    servers = [*_kafka(state, environ), *_postgresql(state, environ), *_apps(state)]
    return StackStatus(name=name, folder=folder, servers=tuple(servers))


def _kafka(state: StackState, environ: Mapping[str, str]) -> list[ServerStatus]:
    server = given_kafka(environ) or state.kafka
    if server is None:
        return []
    config = kafka_config(environ) if server.mode == "environment" else {}
    return [
        _status(
            "kafka",
            server.mode,
            server.bootstrap_servers,
            server.process,
            running=server.running,
            answers=kafka_answers(server.bootstrap_servers, config=config, timeout_s=_ANSWER_S),
        )
    ]


def _postgresql(state: StackState, environ: Mapping[str, str]) -> list[ServerStatus]:
    server = given_postgresql(environ) or state.postgresql
    if server is None:
        return []
    url = server.urls.get("owner") or server.urls.get("admin")
    return [
        _status(
            "postgresql",
            server.mode,
            server.address,
            server.process,
            running=server.running,
            answers=url is not None and postgresql_answers(url, timeout_s=_ANSWER_S),
        )
    ]


def _apps(state: StackState) -> list[ServerStatus]:
    return [
        _status(name, "native", app.url, app.process, running=False, answers=app_answers(app))
        for name, app in state.apps.items()
    ]


def _status(
    server: str, mode: Mode, address: str, process: ProcessRecord | None, *, running: bool, answers: bool
) -> ServerStatus:
    alive = is_running(process) if process else running or mode == "environment"
    return ServerStatus(
        server=server,
        mode=mode,
        address=address,
        running=alive,
        answers=answers,
        pid=process.pid if process else None,
        log=process.log if process else None,
    )
