"""Where KurrentDB is, and how long to wait for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from penstock_store.store_errors import InvalidSettings

__all__ = ["KurrentSettings", "redact_uri"]

_SCHEMES: Final = ("kurrentdb", "kurrentdb+discover", "kdb", "kdb+discover", "esdb", "esdb+discover")
_LOGIN: Final = re.compile(r"(://)[^/?#]*@")
_CATEGORY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_DAY: Final = 86_400.0
# Milliseconds. A subscription waits without a deadline: only these find out that its server is gone.
_KEEP_ALIVE: Final = (("KeepAliveInterval", 10_000), ("KeepAliveTimeout", 10_000))


def redact_uri(uri: str) -> str:
    """The connection string without user, password and options, for messages."""
    return _LOGIN.sub(r"\1", uri).partition("?")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class KurrentSettings:
    """Times are seconds. Raises `InvalidSettings` when made.

    `uri`: kurrentdb://user:password@host:2113 for one server with TLS, with ?tls=false for one without,
    kurrentdb+discover://user:password@cluster.example:2113 for a cluster; esdb:// and esdb+discover:// are
    the same. Options such as NodePreference or TlsCaFile are those of kurrentdbclient.
    """

    uri: str = field(repr=False)  # holds a password
    category: str = "penstock"  # streams are called <category>-<tenant>/<entity>
    system_projections: bool = False  # True: the server runs $by_correlation_id
    call_timeout: float = 30.0  # one call as a whole, what it repeats included; of a stream: one chunk
    health_timeout: float = 5.0
    close_timeout: float = 5.0
    stream_chunk: int = 500  # events; a stream holds one chunk

    def __post_init__(self) -> None:
        scheme, separator, rest = self.uri.strip().partition("://")
        if not separator or scheme.lower() not in _SCHEMES or not rest:
            raise InvalidSettings(
                "uri is not a connection string of KurrentDB; write kurrentdb://user:password@host:2113"
                " (esdb:// is understood too), or kurrentdb+discover://… for a cluster"
            )
        if not _CATEGORY.fullmatch(self.category):
            raise InvalidSettings(
                f"category must be a letter and up to 63 letters, digits, _ or .; got {self.category!r}"
                " (KurrentDB ends a category at the first hyphen)"
            )
        for name in ("call_timeout", "health_timeout", "close_timeout"):
            if not 0 < getattr(self, name) <= _DAY:
                raise InvalidSettings(f"{name} must be more than 0 and at most a day, in seconds")
        if not 1 <= self.stream_chunk <= 100_000:
            raise InvalidSettings("stream_chunk must be from 1 to 100,000 events")

    @property
    def address(self) -> str:
        """For messages: no secret."""
        return redact_uri(self.uri.strip())

    @property
    def connection_string(self) -> str:
        """`uri` with keep-alive where it says nothing of it."""
        uri = self.uri.strip()
        for name, value in _KEEP_ALIVE:
            if f"{name.lower()}=" not in uri.lower():
                uri += f"{'&' if '?' in uri else '?'}{name}={value}"
        return uri

    def without_secrets(self, text: str) -> str:
        """`text` without the connection string and without the password in any spelling."""
        text = text.replace(self.connection_string, self.address).replace(self.uri, self.address)
        login = urlsplit(self.uri.strip()).netloc.rpartition("@")[0]
        password = login.partition(":")[2]
        for spelt in {password, unquote(password), quote(unquote(password), safe="")}:
            if spelt:
                text = text.replace(spelt, "***")
        return _LOGIN.sub(r"\1***@", text)
