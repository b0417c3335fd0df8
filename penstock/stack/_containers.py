"""The servers of a stack as containers: ports and passwords chosen and kept as for native ones."""

import secrets
from collections.abc import Callable

from penstock.stack._docker import Compose
from penstock.stack._native import DATABASE
from penstock.stack._ports import HOST, free_port, is_free
from penstock.stack._postgresql import SUPERUSER, postgres_url
from penstock.stack._readiness import kafka_answers, postgresql_answers, wait_ready
from penstock.stack._roles import LOGINS, provision
from penstock.stack._state import KafkaState, PostgresState

__all__ = ["start_kafka_container", "start_postgresql_container"]

_ANSWER_TIMEOUT_S = 60.0


def start_kafka_container(
    compose: Compose,
    old: KafkaState | None,
    keep: Callable[[KafkaState], None],
    report: Callable[[str], None],
) -> KafkaState:
    """Start the service `kafka`, or return `old` where it answers."""
    if old and kafka_answers(old.bootstrap_servers):
        return old
    port = _port(old.port if old else None)
    state = KafkaState(mode="docker", bootstrap_servers=f"{HOST}:{port}", port=port)
    keep(state)
    report("starting its container")
    compose.up("kafka", {"PENSTOCK_KAFKA_PORT": str(port)})
    wait_ready(
        lambda: kafka_answers(state.bootstrap_servers),
        server=f"Kafka (container, port {port})",
        process=None,
        logs=(),
        timeout_s=_ANSWER_TIMEOUT_S,
    )
    started = state.model_copy(update={"running": True})
    keep(started)
    return started


def start_postgresql_container(
    compose: Compose,
    old: PostgresState | None,
    keep: Callable[[PostgresState], None],
    report: Callable[[str], None],
) -> PostgresState:
    """Start the service `postgresql` and make its logins, or return `old` where it answers."""
    if old and "owner" in old.urls and postgresql_answers(old.urls["owner"]):
        return old
    port = _port(old.port if old else None)
    password = (old.password if old else None) or secrets.token_urlsafe(24)
    state = PostgresState(mode="docker", urls={}, port=port, password=password)
    keep(state)
    report("starting its container")
    compose.up("postgresql", {"PENSTOCK_POSTGRES_PORT": str(port), "PENSTOCK_POSTGRES_PASSWORD": password})
    admin = postgres_url(SUPERUSER, password, port, "postgres")
    wait_ready(
        lambda: postgresql_answers(admin),
        server=f"PostgreSQL (container, port {port})",
        process=None,
        logs=(),
        timeout_s=_ANSWER_TIMEOUT_S,
    )
    passwords = provision(admin, database=DATABASE)
    urls = {role: postgres_url(LOGINS[role], text, port, DATABASE) for role, text in passwords.items()}
    urls["admin"] = postgres_url(SUPERUSER, password, port, DATABASE)
    started = state.model_copy(update={"urls": urls, "running": True})
    keep(started)
    return started


def _port(kept: int | None) -> int:
    return kept if kept is not None and is_free(kept) else free_port()
