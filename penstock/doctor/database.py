"""PostgreSQL: reachable, migrated, and each login able to do its work and no more."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from penstock.doctor.report import Finding, failed, fine, warned
from penstock.redaction import redact
from penstock.settings import DatabaseRole, Settings
from penstock_store import migrations
from penstock_store.driver import DRIVER_ERRORS
from penstock_store.errors import MigrationError

__all__ = [
    "CLOCK_WARN",
    "Privilege",
    "examine_database",
    "judge_clock",
    "judge_partitions",
    "judge_privileges",
]

_NAME = "PostgreSQL"
_LEAST_VERSION = 150_000
_AHEAD = "Set PostgreSQL's clock by NTP; until it is there, events are recorded at the partition's beginning"
CLOCK_WARN = timedelta(seconds=2)


class Privilege(NamedTuple):
    """A right on a table or function, and whether the login should have it."""

    right: str
    on: str
    wanted: bool


_EVENTS = "penstock.events"
_PRIVILEGES: dict[DatabaseRole, tuple[Privilege, ...]] = {
    DatabaseRole.WORKER: (
        Privilege("SELECT", _EVENTS, True),
        Privilege("INSERT", _EVENTS, True),
        Privilege("UPDATE", "penstock.offsets", True),
        Privilege("UPDATE", _EVENTS, False),
        Privilege("DELETE", _EVENTS, False),
        Privilege("TRUNCATE", _EVENTS, False),
        Privilege("EXECUTE", "penstock.drop_partition(text)", False),
    ),
    DatabaseRole.READER: (
        Privilege("SELECT", _EVENTS, True),
        Privilege("EXECUTE", "penstock.safe_sequence()", True),
        Privilege("INSERT", _EVENTS, False),
        Privilege("UPDATE", _EVENTS, False),
        Privilege("DELETE", _EVENTS, False),
    ),
    DatabaseRole.RETENTION: (
        Privilege("SELECT", "penstock.partitions", True),
        Privilege("EXECUTE", "penstock.drop_partition(text)", True),
        Privilege("EXECUTE", "penstock.ensure_partitions(integer)", True),
        Privilege("INSERT", _EVENTS, False),
        Privilege("UPDATE", _EVENTS, False),
        Privilege("DELETE", _EVENTS, False),
    ),
    DatabaseRole.REGISTRY: (
        Privilege("INSERT", "penstock.registry_schemas", True),
        Privilege("SELECT", _EVENTS, False),
    ),
}
_HAS = {
    "EXECUTE": "SELECT has_function_privilege($1::text, $2::text)",
    "table": "SELECT has_table_privilege($1::text, $2::text)",
}


async def examine_database(settings: Settings) -> tuple[list[Finding], bool]:
    """The findings, and whether the schema is there, so that further questions make sense."""
    dsn, timeout = settings.database(), settings.timeout_seconds
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout)
    except DRIVER_ERRORS as error:
        return [_unreachable(dsn, error)], False
    try:
        findings = list(await _server(connection, dsn))
        migrated = await asyncio.to_thread(_migrations, dsn)
        findings.append(migrated)
        if migrated.advice:
            return findings, False
        findings.extend(await _partitions(connection))
    finally:
        await connection.close(timeout=timeout)
    for role in _PRIVILEGES:
        findings.extend(await _login(settings, role))
    return findings, True


def _unreachable(dsn: str, error: BaseException) -> Finding:
    detail = f"{redact(dsn)}: {error or type(error).__name__}"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return failed(_NAME, "reachable", detail, "Correct user and password in PENSTOCK_DATABASE_URL")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return failed(_NAME, "reachable", detail, "Create the database, or correct PENSTOCK_DATABASE_URL")
    return failed(_NAME, "reachable", detail, "Start it (penstock up), or correct PENSTOCK_DATABASE_URL")


async def _server(connection: "asyncpg.Connection[Any]", dsn: str) -> Iterator[Finding]:
    before = datetime.now(UTC)
    row = await connection.fetchrow(
        "SELECT clock_timestamp() AS now, current_setting('server_version') AS version,"
        " current_setting('server_version_num')::int AS number,"
        " current_setting('max_connections')::int AS most,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used"
    )
    after = datetime.now(UTC)
    if row is None:
        raise RuntimeError("a SELECT without FROM returned no row")
    return iter(
        [
            _version(dsn, row["version"], row["number"]),
            judge_clock(row["now"] - (before + (after - before) / 2)),
            _connections(row["used"], row["most"]),
        ]
    )


def _version(dsn: str, version: str, number: int) -> Finding:
    if number < _LEAST_VERSION:
        return failed(_NAME, "reachable", f"version {version}", "Upgrade to PostgreSQL 15 or newer")
    return fine(_NAME, "reachable", f"{redact(dsn)} · version {version}")


def judge_clock(difference: timedelta) -> Finding:
    """PostgreSQL's clock against ours."""
    seconds = difference.total_seconds()
    if abs(difference) > CLOCK_WARN:
        detail = f"PostgreSQL is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
        return warned(_NAME, "clock", detail, "Synchronise both by NTP: delays and ages are wrong by as much")
    return fine(_NAME, "clock", f"differs by {abs(seconds) * 1000:.0f} ms")


def _connections(used: int, most: int) -> Finding:
    detail = f"{used} of {most} in use"
    if used > 0.8 * most:
        return warned(
            _NAME, "connections", detail, "Raise max_connections or share pools: new workers would fail"
        )
    return fine(_NAME, "connections", detail)


def _migrations(dsn: str) -> Finding:
    try:
        current, head = migrations.current(dsn), migrations.head()
    except MigrationError as error:
        return failed(_NAME, "migrations", str(error), "penstock migrate")
    if current != head:
        return failed(_NAME, "migrations", f"at {current or 'none'}, newest is {head}", "penstock migrate")
    return fine(_NAME, "migrations", f"at {head}, the newest")


async def _partitions(connection: "asyncpg.Connection[Any]") -> list[Finding]:
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE state <> 'dropped') AS kept,"
        " count(*) FILTER (WHERE state = 'future') AS future,"
        " count(*) FILTER (WHERE state = 'closed' AND sealed_at IS NULL) AS unsealed,"
        " max(upper) FILTER (WHERE state IN ('current', 'future')) - clock_timestamp() AS ahead,"
        " max(lower) FILTER (WHERE state = 'current') - clock_timestamp() AS until"
        " FROM penstock.partitions"
    )
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return list(judge_partitions(row["kept"], row["future"], row["unsealed"], row["ahead"], row["until"]))


def judge_partitions(
    kept: int, future: int, unsealed: int, ahead: timedelta | None, until: timedelta | None
) -> Iterator[Finding]:
    """Partitions ahead of the clock, and closed ones that wait for their constraints. `until` the current one
    begins.
    """
    advice = "penstock retention run, and keep penstock retention worker running"
    if ahead is None or ahead <= timedelta(0):
        yield warned(
            _NAME, "partitions", f"{kept}, none ahead of the clock: a writer must make the next", advice
        )
    elif future == 0:
        yield warned(_NAME, "partitions", f"{kept}, the last one ends in {_words(ahead)}", advice)
    else:
        yield fine(_NAME, "partitions", f"{kept}, {future} of them ahead, for {_words(ahead)}")
    if until is not None and until > CLOCK_WARN:
        detail = f"begins in {_words(until)}: PostgreSQL's clock was ahead when it rolled, or is behind now"
        yield warned(_NAME, "partitions: current", detail, _AHEAD)
    if unsealed > 1:
        detail = f"{unsealed} are closed without constraints: reads by sequence search all of them"
        yield warned(_NAME, "partitions: closed", detail, advice)


def _words(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"


async def _login(settings: Settings, role: DatabaseRole) -> list[Finding]:
    check, timeout = f"{role} login", settings.timeout_seconds
    variable = f"PENSTOCK_{role.upper()}_DATABASE_URL"
    dsn = settings.database(role)
    if dsn == settings.database():
        detail = "is the owner's: nothing but the code keeps it from changing or removing events"
        return [warned(_NAME, check, detail, f"Give it a login of its own in {variable}")]
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout)
    except DRIVER_ERRORS as error:
        return [
            failed(_NAME, check, f"{redact(dsn)}: {error or type(error).__name__}", f"Correct {variable}")
        ]
    try:
        user, super_ = await connection.fetchrow(
            "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
        ) or ("?", False)
        has = [await _holds(connection, wanted) for wanted in _PRIVILEGES[role]]
    finally:
        await connection.close(timeout=timeout)
    return [judge_privileges(role, str(user), bool(super_), _PRIVILEGES[role], has)]


async def _holds(connection: "asyncpg.Connection[Any]", wanted: Privilege) -> bool:
    statement = _HAS.get(wanted.right, _HAS["table"])
    return bool(await connection.fetchval(statement, wanted.on, wanted.right))


def judge_privileges(
    role: DatabaseRole, user: str, superuser: bool, wanted: Sequence[Privilege], has: Sequence[bool]
) -> Finding:
    """What a login can do against what it should be able to do."""
    check, group = f"{role} login", _GROUPS[role]
    if superuser:
        return failed(
            _NAME, check, f"{user} is a superuser: no privilege binds it", f"Use one that is only in {group}"
        )
    missing = [f"{p.right} on {p.on}" for p, held in zip(wanted, has, strict=True) if p.wanted and not held]
    beyond = [f"{p.right} on {p.on}" for p, held in zip(wanted, has, strict=True) if held and not p.wanted]
    if missing:
        return failed(_NAME, check, f"{user} lacks {', '.join(missing)}", f"GRANT {group} TO {user}")
    if beyond:
        detail = f"{user} may {', '.join(beyond)}: the store is not append-only for it"
        return failed(_NAME, check, detail, f"REVOKE it; {user} needs nothing but {group}")
    return fine(_NAME, check, f"{user} can do its work and no more")


_GROUPS = {
    DatabaseRole.WORKER: "penstock_writer",
    DatabaseRole.READER: "penstock_reader",
    DatabaseRole.RETENTION: "penstock_retention",
    DatabaseRole.REGISTRY: "penstock_registry",
}
