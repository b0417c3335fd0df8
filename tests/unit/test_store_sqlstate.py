"""Whose fault an error is: the table of SQLSTATEs that decides between dead letter, pause and stop."""

from __future__ import annotations

import asyncpg
import pytest
from pydantic import ValidationError

from penstock_store.dsn import normalise_dsn, redact_dsn
from penstock_store.errors import InvalidDsn, SinkBroken, SinkUnavailable
from penstock_store.ingest import SinkSettings
from penstock_store.ingest._sqlstate import is_retryable, is_row_fault, sink_error
from penstock_store.postgresql._failures import store_error


def _error(sqlstate: str, constraint: str | None = None) -> asyncpg.PostgresError:
    fields = {"S": "ERROR", "C": sqlstate, "M": "message", "D": "Failing row contains (secret)"}
    fields["t"] = "events_1"
    if constraint:
        fields["n"] = constraint
    return asyncpg.PostgresError.new(fields)  # type: ignore[no-any-return]


@pytest.mark.parametrize("sqlstate", ["22021", "22P02", "22P05", "22003", "22008", "23502", "54000"])
def test_a_row_is_at_fault(sqlstate: str) -> None:
    assert is_row_fault(_error(sqlstate))


@pytest.mark.parametrize(
    "sqlstate", ["53100", "53200", "42703", "40P01", "57014", "08006", "22P04", "XX000", "25P02", "54001"]
)
def test_no_row_is_at_fault(sqlstate: str) -> None:
    assert not is_row_fault(_error(sqlstate))


def test_a_row_outside_of_its_partition_is_not_its_own_fault() -> None:
    assert not is_row_fault(_error("23514"))
    assert is_row_fault(_error("23514", "a_users_own_check"))
    assert is_row_fault(_error("23514", "other_bounds"))
    assert not is_row_fault(_error("23514", "events_1_bounds"))  # what closing a partition adds


@pytest.mark.parametrize(
    "sqlstate",
    # 53100 is kafka-connect-jdbc #1312: a full tablespace must not dead-letter anything
    [
        "53100",
        "53300",
        "57P01",
        "57P03",
        "57014",
        "08006",
        "40001",
        "40P01",
        "55P03",
        "25006",
        "25P03",
        "58030",
    ],
)
def test_unavailable(sqlstate: str) -> None:
    error = sink_error(_error(sqlstate), "a batch")
    assert isinstance(error, SinkUnavailable)
    assert error.sqlstate == sqlstate


@pytest.mark.parametrize(
    "sqlstate",
    ["42703", "42501", "42P01", "28P01", "28000", "3D000", "3F000", "0A000", "22P04", "23514", "23505"],
)
def test_broken(sqlstate: str) -> None:
    assert isinstance(sink_error(_error(sqlstate), "a batch"), SinkBroken)


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), OSError("refused"), asyncpg.InterfaceError("closed"), EOFError()]
)
def test_a_lost_connection_is_unavailable(error: Exception) -> None:
    assert isinstance(sink_error(error, "a batch"), SinkUnavailable)


@pytest.mark.parametrize("sqlstate", ["53100", "42703"])
def test_messages_never_quote_rows(sqlstate: str) -> None:
    assert "secret" not in str(sink_error(_error(sqlstate), "a batch"))


def test_deadlocks_are_run_again() -> None:
    assert is_retryable(_error("40P01"))
    assert is_retryable(_error("40001"))
    assert not is_retryable(_error("23505"))
    assert not is_retryable(OSError())


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "POSTGRESQL"])
def test_spellings_of_the_url(scheme: str) -> None:
    assert normalise_dsn(f"{scheme}://u:p@h:1/d?x=y") == "postgresql://u:p@h:1/d?x=y"


@pytest.mark.parametrize(
    "dsn", ["mysql://u:secret@h/d", "u:secret@h/d", "", "postgresql+psycopg://u:secret@h/d"]
)
def test_other_urls_are_refused_without_quoting_them(dsn: str) -> None:
    with pytest.raises(InvalidDsn) as refused:
        normalise_dsn(dsn)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "password", ["s3cr/et", "s3cr?et", "s3cr#et", "s3cr[et", "s3cr]et", "s3cr@et", "1/et", "2?et=1"]
)
def test_a_password_that_ends_the_urls_part_is_refused(password: str) -> None:
    with pytest.raises(InvalidDsn, match="percent-encode") as refused:
        normalise_dsn(f"postgresql://writer:{password}@host/db")
    assert password not in str(refused.value)
    assert refused.value.__context__ is None  # a traceback shows no cause that quotes it


@pytest.mark.parametrize(
    "rest",
    ["", "/db?host=/tmp", "u@/db", "[::1]:5/db", "u:p@h1:1,h2:2/db?user=x", "u:a:b@h", "%2Ftmp:1/db"],
)
def test_a_url_that_libpq_takes_passes(rest: str) -> None:
    assert normalise_dsn(f"postgres://{rest}") == f"postgresql://{rest}"


def test_redacting() -> None:
    assert redact_dsn("postgresql://u:p%40ss@h:1/d?password=x") == "postgresql://h:1/d"
    assert redact_dsn("postgresql://writer:s3cr/et@host/db") == "postgresql://host/db"


@pytest.mark.parametrize(
    "wrong",
    [
        {"group_id": ""},
        {"group_id": "a\0"},
        {"write_timeout": 0},
        {"attempts": 0},
        {"unknown": 1},
        {"dsn": "x"},
    ],
)
def test_settings_are_validated_when_made(wrong: dict[str, object]) -> None:
    good = {"dsn": "postgres://u:secret@h/d", "group_id": "g"}
    assert "secret" not in repr(SinkSettings.model_validate(good))
    with pytest.raises(ValidationError):
        SinkSettings.model_validate(good | wrong)


@pytest.mark.parametrize("others", [{}, {"group_id": "g"}])
def test_settings_that_are_refused_quote_no_password(others: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        SinkSettings.model_validate({"dsn": "mysql://u:secret@h/d", **others})
    assert "secret" not in str(refused.value)


def test_a_migration_under_a_running_worker_is_waited_out() -> None:
    """Its SQLSTATE, 0A000, is otherwise that of something PostgreSQL cannot do at all."""
    error = asyncpg.InvalidCachedStatementError("cached statement plan is invalid")
    assert is_retryable(error)
    assert isinstance(sink_error(error, "a batch"), SinkUnavailable)


@pytest.mark.parametrize("sqlstate", ["28P01", "28000"])
def test_a_wrong_login_is_told_from_a_missing_role(sqlstate: str) -> None:
    said = str(store_error(_error(sqlstate), "postgresql://u:s3cr3t@h/d"))
    assert "does not let the login in" in said
    assert "migrate" not in said
    assert "s3cr3t" not in said
    assert "grant the login the role" in str(store_error(_error("42501"), "postgresql://h/d"))
