"""Database URLs: the spellings that are accepted, and how one is shown without its password."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from penstock_store.errors import InvalidDsn

__all__ = ["normalise_dsn", "redact_dsn"]

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")


def normalise_dsn(dsn: str) -> str:
    """The URL as asyncpg takes it: postgres:// and postgresql+asyncpg:// become postgresql://.

    Raises InvalidDsn for another scheme.
    """
    scheme, separator, rest = dsn.strip().partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise InvalidDsn(
            "the database URL is not one of PostgreSQL; write postgresql://user:password@host:port/database "
            "(postgres:// and postgresql+asyncpg:// are understood too)"
        )
    return "postgresql://" + rest


def redact_dsn(dsn: str) -> str:
    """The URL without user information and query, for messages and logs."""
    parts = urlsplit(dsn)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
