"""Database, group roles and one login for each kind of process."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from penstock.stack._sql import literal, quote_identifier, with_connection

__all__ = ["GROUPS", "LOGINS", "provision"]

LOGINS: Final[Mapping[str, str]] = {
    "owner": "penstock_owner",
    "worker": "penstock_worker",
    "reader": "penstock_read_only",
    "retention": "penstock_retention_worker",
    "registry": "penstock_schema_registry",
}
GROUPS: Final[Mapping[str, str]] = {
    "worker": "penstock_writer",
    "reader": "penstock_reader",
    "retention": "penstock_retention",
    "registry": "penstock_registry",
}
# The owner migrates (makes group roles) and its functions end a stopped writer's backend; it is no superuser.
_OWNER_OPTIONS: Final = "CREATEROLE CREATEDB"
_OWNER_MEMBERSHIPS: Final = ("pg_signal_backend", "pg_monitor")
_LOCK: Final = 0x70656E73746F636B  # "penstock": roles are cluster-wide, so one of us makes them at a time


def provision(
    admin_url: str,
    *,
    database: str,
    suffix: str = "",
    passwords: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> dict[str, str]:
    """Make what is missing and set the logins' passwords, random where none is given.

    Returns the password of each role of `LOGINS`; `suffix` is added to the logins' names.
    """
    given = passwords or {}
    chosen = {role: given.get(role) or secrets.token_urlsafe(24) for role in LOGINS}

    async def work(connection: "asyncpg.Connection[Any]") -> None:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            for group in GROUPS.values():
                await _make_role(connection, group, "NOLOGIN")
            for role, login in LOGINS.items():
                name = login + suffix
                options = _OWNER_OPTIONS if role == "owner" else ""
                await _make_role(connection, name, "LOGIN")
                await connection.execute(
                    f"ALTER ROLE {quote_identifier(name)} LOGIN {options} PASSWORD {literal(chosen[role])}"
                )
                if role in GROUPS:
                    await connection.execute(f"GRANT {GROUPS[role]} TO {quote_identifier(name)}")
            owner = quote_identifier(LOGINS["owner"] + suffix)
            # WITH ADMIN, as the migration that finds a group role grants it on (PostgreSQL 16 asks for that)
            for group in GROUPS.values():
                await connection.execute(f"GRANT {group} TO {owner} WITH ADMIN OPTION")
            for predefined in _OWNER_MEMBERSHIPS:
                await connection.execute(f"GRANT {predefined} TO {owner} WITH ADMIN OPTION")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(f"CREATE DATABASE {quote_identifier(database)} OWNER {owner}")

    with_connection(admin_url, work, timeout_s=timeout_s)
    return chosen


async def _make_role(connection: "asyncpg.Connection[Any]", name: str, options: str) -> None:
    if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        return
    try:
        async with connection.transaction():
            await connection.execute(f"CREATE ROLE {quote_identifier(name)} {options}")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        pass  # a migration, which takes no lock of ours, made it in between
