"""Addresses of the running local stack, as settings."""

from pathlib import Path
from typing import Any

__all__ = ["stack_values"]


def stack_values(name: str, root: Path, *, needed: bool = False) -> dict[str, Any]:
    """Settings that the stack `name` under `root` answers to; empty where none is running.

    Raises `StackError` where its file is not of this version, or where none is running and one is `needed`.
    """
    from penstock.stack import (
        StackError,
        addresses,
    )  # not needed, and not cheap, for `--version` and `--help`

    found = addresses(name, root=root)
    if found is None:
        if needed:
            raise StackError(
                f"No stack {name!r} is running in {root}. Start it (`penstock up --stack {name}`), or leave "
                "out --stack and PENSTOCK_STACK."
            )
        return {}
    values = {
        "kafka_bootstrap_servers": found.kafka,
        "database_url": found.database_url,
        "worker_database_url": found.worker_database_url,
        "retention_database_url": found.retention_database_url,
        "reader_database_url": found.reader_database_url,
        "registry_database_url": found.registry_database_url,
        "schema_registry_url": found.schema_registry_url,
    }
    return {key: value for key, value in values.items() if value}
