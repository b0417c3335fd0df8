"""No part of a password is ever shown: not by a redacted URL, not by what refuses or tries it."""

from __future__ import annotations

import asyncio
import traceback

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_store.driver import DRIVER_ERRORS
from penstock_store.dsn import normalise_dsn, redact_dsn
from penstock_store.errors import InvalidDsn

_SECRET = "S3CR"  # each piece of the passwords made here
_passwords = st.lists(st.sampled_from([_SECRET, *"/?#[]@:=&%,+ €²℀"]), min_size=1, max_size=8).map(
    lambda parts: _SECRET + "".join(parts)
)
_urls = st.builds(
    str.format,
    st.sampled_from(
        [
            "postgresql://writer:{}@127.0.0.1:1/db",
            "postgres://writer:{}@127.0.0.1:1/db?sslmode=disable",
            "postgresql+asyncpg://writer:{}@127.0.0.1:1,127.0.0.1:2",
            "postgresql://127.0.0.1:1/db?sslmode=disable&password={}",
            "postgresql://writer:x@127.0.0.1:1/db?password={}",
            "writer:{}@127.0.0.1/db",
        ]
    ),
    _passwords,
)


@given(url=_urls)
def test_a_password_is_never_shown(url: str) -> None:
    assert _SECRET not in redact_dsn(url)
    with pytest.raises((InvalidDsn, *DRIVER_ERRORS)) as caught:
        asyncio.run(asyncpg.connect(normalise_dsn(url), timeout=30))
    assert _SECRET not in "".join(traceback.format_exception_only(caught.value))
    if isinstance(caught.value, InvalidDsn):
        assert caught.value.__context__ is None  # a traceback shows no cause that quotes it


@given(text=st.lists(st.sampled_from(["postgresql://", *"a1:/?#[]@=&%, "]), max_size=12).map("".join))
def test_whatever_the_text_redacting_raises_nothing(text: str) -> None:
    redact_dsn(text)
