"""Servers started from this machine's programs. A stopped stack comes back with its ports and passwords."""

import hashlib
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from penstock.stack._kafka import KafkaServer, new_cluster_id
from penstock.stack._ports import HOST, free_port, is_free
from penstock.stack._postgresql import PostgresServer, data_home, postgres_url
from penstock.stack._process import ProcessRecord, is_running
from penstock.stack._readiness import kafka_answers, postgresql_answers, wait_ready
from penstock.stack._roles import LOGINS, provision
from penstock.stack._state import KafkaState, PostgresState
from penstock.stack.errors import ServerStartError, StackError

__all__ = [
    "DATABASE",
    "kafka_server",
    "postgres_server",
    "start_kafka",
    "start_postgresql",
    "stop_kafka",
    "stop_postgresql",
]

Report = Callable[[str], None]
_State = TypeVar("_State", KafkaState, PostgresState)

DATABASE: Final = "penstock"
_BIND_ATTEMPTS: Final = 3
_SLOW_S: Final = 60.0
_MINIMUM_FREE_BYTES: Final = 512 * 1024 * 1024  # initdb and Kafka's first segments take about 100 MB


def start_kafka(
    folder: Path, old: KafkaState | None, keep: Callable[[KafkaState], None], report: Report
) -> KafkaState:
    """Start the broker, or return `old` where it runs. `keep` stores what must not be forgotten."""
    if old and _answers_again("Kafka", old.process, lambda: kafka_answers(old.bootstrap_servers)):
        return old
    _check_disk(folder)
    state = old or KafkaState(mode="native", bootstrap_servers="", cluster_id=new_cluster_id())

    def attempt(ports: tuple[int, int]) -> KafkaState:
        places = {"port": ports[0], "controller_port": ports[1], "bootstrap_servers": f"{HOST}:{ports[0]}"}
        planned = state.model_copy(update={**places, "process": None})
        server = kafka_server(folder, planned)
        process = server.start(report, lambda spawned: keep(planned.model_copy(update={"process": spawned})))
        return planned.model_copy(update={"process": process})

    return _with_ports(attempt, (state.port, state.controller_port), report)


def start_postgresql(
    folder: Path,
    old: PostgresState | None,
    keep: Callable[[PostgresState], None],
    report: Report,
    *,
    durable: bool,
) -> PostgresState:
    """Start the server and make its database and logins, or return `old` where it runs."""
    if (
        old
        and "owner" in old.urls
        and _answers_again("PostgreSQL", old.process, lambda: postgresql_answers(old.urls["owner"]))
    ):
        return old
    if old:
        stop_postgresql(old)
    _check_disk(folder)
    state = old or _new_postgresql(folder, durable)

    def attempt(ports: tuple[int, int]) -> PostgresState:
        planned = state.model_copy(update={"port": ports[0], "process": None, "durable": durable})
        keep(planned)  # with the password, before there is data that only it opens
        server = postgres_server(folder, planned)
        process = server.start(report, lambda spawned: keep(planned.model_copy(update={"process": spawned})))
        report("making its database and logins")
        passwords = provision(server.url(), database=DATABASE, passwords=_passwords(state.urls))
        urls = {
            role: postgres_url(LOGINS[role], password, ports[0], DATABASE)
            for role, password in passwords.items()
        }
        urls["admin"] = server.url(DATABASE)
        complete = planned.model_copy(update={"process": process, "urls": urls})
        keep(complete)
        return complete

    return _with_ports(attempt, (state.port, None), report)


def stop_kafka(state: KafkaState) -> bool:
    """End the broker's process if it is still the one that we started."""
    return state.process is not None and KafkaServer.stop(state.process)


def stop_postgresql(state: PostgresState) -> bool:
    """End the server's process if it is still the one that we started."""
    return state.process is not None and PostgresServer.stop(state.process)


def kafka_server(folder: Path, state: KafkaState) -> KafkaServer:
    """The broker that `state` describes."""
    if state.port is None or state.controller_port is None or state.cluster_id is None:
        raise StackError(
            f"{folder / 'stack.json'} names no ports for Kafka; remove it with: penstock down --wipe"
        )
    return KafkaServer(
        home=folder / "kafka",
        log=folder / "logs" / "kafka.log",
        port=state.port,
        controller_port=state.controller_port,
        cluster_id=state.cluster_id,
    )


def postgres_server(folder: Path, state: PostgresState) -> PostgresServer:
    """The server that `state` describes."""
    if state.port is None or state.home is None or state.password is None:
        raise StackError(
            f"{folder / 'stack.json'} names no place for PostgreSQL; remove it with: penstock down --wipe"
        )
    return PostgresServer(
        home=state.home,
        log=folder / "logs" / "postgresql.log",
        port=state.port,
        password=state.password,
        durable=state.durable,
    )


def _answers_again(server: str, process: ProcessRecord | None, answers: Callable[[], bool]) -> bool:
    """Whether a server that we started before still does its work; false when it has ended.

    One that runs but is slow to answer, on a busy machine, is waited for: others may be using it.
    """
    if process is None or not is_running(process):
        return False
    try:
        wait_ready(answers, server=server, process=process, logs=(process.log,), timeout_s=_SLOW_S)
    except ServerStartError:
        return False
    return True


def _passwords(urls: Mapping[str, str]) -> dict[str, str]:
    """The logins' passwords so far: those who copied a URL can go on using it."""
    return {role: unquote(urlsplit(url).password or "") for role, url in urls.items() if role in LOGINS}


def _new_postgresql(folder: Path, durable: bool) -> PostgresState:
    key = f"{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}-{folder.name}"
    home = data_home(folder / "postgresql", key)
    if (home / "data").exists():
        raise StackError(
            f"{home} holds a database whose password is lost: {folder / 'stack.json'} is missing. "
            f"Put that file back, or move {home} away, then start again."
        )
    return PostgresState(
        mode="native", urls={}, home=home, password=secrets.token_urlsafe(24), durable=durable
    )


def _with_ports(
    attempt: Callable[[tuple[int, int]], _State], wanted: tuple[int | None, int | None], report: Report
) -> _State:
    """Run `attempt` on free ports; once more on others when somebody else bound one in the meantime."""
    for left in reversed(range(_BIND_ATTEMPTS)):
        ports: list[int] = []
        for port in wanted:
            if port is not None and not is_free(port):
                report(f"port {port} is taken by another program: choosing another")
                port = None
            ports.append(port or free_port(set(ports)))
        try:
            return attempt((ports[0], ports[1]))
        except ServerStartError:
            if not left or all(is_free(port) for port in ports):
                raise
            wanted = (None, None)
    raise AssertionError("unreachable")


def _check_disk(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _MINIMUM_FREE_BYTES:
        raise StackError(
            f"Only {free / 2**20:.0f} MB are free where {folder} is; "
            f"the servers need {_MINIMUM_FREE_BYTES / 2**20:.0f} MB. "
            "Free some space, then try again."
        )
