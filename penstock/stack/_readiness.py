"""Ready means answering: a server that merely runs, or merely listens, is not ready."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import asyncpg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from penstock.stack._process import ProcessRecord, is_running, log_tail
from penstock.stack._sql import fetch_value
from penstock.stack.errors import ServerStartError, StackTimeoutError

__all__ = ["kafka_answers", "postgresql_answers", "wait_ready"]

_POLL_S: Final = 0.1
_PROBE_S: Final = 5.0


def wait_ready(
    answers: Callable[[], bool],
    *,
    server: str,
    process: ProcessRecord | None,
    logs: tuple[Path, ...],
    timeout_s: float,
) -> None:
    """Wait until `answers()`; fail at once, with the log's end, when `process` dies meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not answers():
        if process is not None and not is_running(process):
            raise ServerStartError(f"{server} ended while it was starting.\n{_ends(logs)}")
        if time.monotonic() > deadline:
            raise StackTimeoutError(f"{server} did not answer within {timeout_s:.0f} s.\n{_ends(logs)}")
        time.sleep(_POLL_S)


def kafka_answers(
    bootstrap_servers: str, *, timeout_s: float = _PROBE_S, config: dict[str, str] | None = None
) -> bool:
    """Whether a broker answers a metadata request."""
    admin = AdminClient(
        {
            **(config or {}),
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,  # refused connections are what is being probed, no news for stderr
            "reconnect.backoff.max.ms": 250,
        }
    )
    try:
        return bool(admin.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def postgresql_answers(url: str, *, timeout_s: float = _PROBE_S) -> bool:
    """Whether the server answers a query."""
    try:
        return fetch_value(url, "SELECT 1", timeout_s=timeout_s) == 1
    except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
        return False


def _ends(logs: tuple[Path, ...]) -> str:
    return "\n".join(f"The end of {log}:\n{log_tail(log)}" for log in logs)
