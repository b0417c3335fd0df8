"""Database URLs: the spellings that are accepted, and how one is shown without its password."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

from penstock_store.errors import InvalidDsn

__all__ = ["normalise_dsn", "redact_dsn"]

_SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")
_HOST: Final = r"(?:\[[^@/?#\[\]]*\]|[^@:,/?#\[\]]*)(?::[0-9]{0,5})?"
_REST: Final = re.compile(rf"(?:[^@/?#\[\]]*@)?{_HOST}(?:,{_HOST})*(?:/[^@?#]*)?(?:\?[^@#]*)?")


def normalise_dsn(dsn: str) -> str:
    """The URL as asyncpg takes it: postgres:// and postgresql+asyncpg:// become postgresql://.

    Raises InvalidDsn for another scheme, and for what asyncpg would read otherwise than it was meant: its
    errors quote the piece of a password that it took for a port or a query.
    """
    scheme, separator, rest = dsn.strip().partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise InvalidDsn(
            "the database URL is not one of PostgreSQL; write postgresql://user:password@host:port/database "
            "(postgres:// and postgresql+asyncpg:// are understood too)"
        )
    normal = "postgresql://" + rest
    if not _REST.fullmatch(rest) or not _parses(normal):
        raise InvalidDsn(
            "the database URL is not postgresql://user:password@host:port/database?name=value; percent-encode"
            " / ? # [ ] @ in the user and the password (%2F %3F %23 %5B %5D %40), and @ # & in what follows"
        )
    return normal


def redact_dsn(dsn: str) -> str:
    """The URL without user information and query, for messages and logs. Never raises: of one that was
    refused, everything up to the last @ is left out.
    """
    scheme, separator, rest = dsn.strip().partition("://")
    hidden, _, shown = (rest if separator else dsn).rpartition("@")
    if "=" in hidden.partition("?")[2]:  # the @ may be one of a value
        shown = ""
    known = scheme if separator and scheme.lower() in _SCHEMES else "postgresql"
    return f"{known}://{re.split('[?#]', shown)[0]}"


def _parses(dsn: str) -> bool:
    try:
        query = urlsplit(dsn).query
        return not query or bool(parse_qs(query, strict_parsing=True))
    except ValueError:
        return False
