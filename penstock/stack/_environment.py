"""Servers that are not ours: addresses given in the environment, each server on its own."""

import json
from collections.abc import Mapping

from penstock.stack._readiness import kafka_answers, postgresql_answers
from penstock.stack._state import ROLES, KafkaState, PostgresState
from penstock.stack.errors import StackError

__all__ = [
    "check_kafka",
    "check_postgresql",
    "given_kafka",
    "given_postgresql",
    "given_registry",
    "kafka_config",
]

_ANSWER_S = 10.0


def given_kafka(environ: Mapping[str, str]) -> KafkaState | None:
    """The broker that the environment names."""
    servers = environ.get("PENSTOCK_KAFKA_BOOTSTRAP_SERVERS")
    return KafkaState(mode="environment", bootstrap_servers=servers) if servers else None


def given_postgresql(environ: Mapping[str, str]) -> PostgresState | None:
    """The server that the environment names; a role without a URL of its own uses the owner's."""
    owner = environ.get("PENSTOCK_DATABASE_URL")
    if not owner:
        return None
    urls = {role: environ.get(f"PENSTOCK_{role.upper()}_DATABASE_URL") or owner for role in ROLES[1:]}
    return PostgresState(mode="environment", urls={"admin": owner, "owner": owner, **urls})


def given_registry(environ: Mapping[str, str]) -> str | None:
    """The schema registry that the environment names."""
    return environ.get("PENSTOCK_SCHEMA_REGISTRY_URL") or None


def check_kafka(server: KafkaState, environ: Mapping[str, str]) -> None:
    """Raise StackError unless the broker answers."""
    if not kafka_answers(server.bootstrap_servers, timeout_s=_ANSWER_S, config=kafka_config(environ)):
        raise StackError(
            f"PENSTOCK_KAFKA_BOOTSTRAP_SERVERS names {server.bootstrap_servers}; no broker answers there. "
            "Correct it, or unset it so that one is started."
        )


def check_postgresql(server: PostgresState) -> None:
    """Raise StackError unless the server answers."""
    if not postgresql_answers(server.urls["owner"], timeout_s=_ANSWER_S):
        raise StackError(
            f"PENSTOCK_DATABASE_URL names {server.address}; no server answers there. "
            "Correct it, or unset it so that one is started."
        )


def kafka_config(environ: Mapping[str, str]) -> dict[str, str]:
    """librdkafka's settings (TLS, SASL) that go with the address."""
    text = environ.get("PENSTOCK_KAFKA_CONFIG")
    if not text:
        return {}
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        raise StackError(
            "PENSTOCK_KAFKA_CONFIG is not a JSON object of librdkafka's settings; correct it or unset it."
        ) from None  # the text may hold a password
