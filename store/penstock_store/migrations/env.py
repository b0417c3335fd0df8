"""Alembic's environment: run by penstock_store.migrations, which puts the connection into `attributes`."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from penstock_store.schema import SCHEMA, metadata

# One migration at a time and database: the pair is the store's own, see sql/0001_partitions.sql.
_LOCK = text("SELECT pg_advisory_xact_lock(1346719315, 5)")
_LEAVES = text(
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = :schema AND c.relispartition"
)


def _options(leaves: set[str]) -> dict[str, Any]:
    def include(name: str | None, kind: str, _parents: object) -> bool:
        if kind == "schema":
            return name == SCHEMA
        return not (kind == "table" and name in leaves)

    return {
        "target_metadata": metadata,
        "version_table": "schema_version",
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": include,
        "compare_server_default": True,
    }


def _online(connection: Connection) -> None:
    connection.execute(_LOCK)
    # IF NOT EXISTS asks for the privilege to create even where the schema exists.
    if connection.scalar(text("SELECT to_regnamespace(:schema)"), {"schema": SCHEMA}) is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    leaves = set(connection.scalars(_LEAVES, {"schema": SCHEMA}))
    context.configure(connection=connection, **_options(leaves))
    with context.begin_transaction():
        context.run_migrations()
    if not context.get_context().get_current_heads():
        connection.execute(text(f"DROP TABLE IF EXISTS {SCHEMA}.schema_version"))
        connection.execute(text(f"DROP SCHEMA {SCHEMA}"))


def _offline() -> None:
    # With the default driver every % would be doubled.
    context.configure(dialect_name="postgresql+asyncpg", literal_binds=True, **_options(set()))
    with context.begin_transaction():
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()


if context.is_offline_mode():
    _offline()
else:
    _online(context.config.attributes["connection"])
