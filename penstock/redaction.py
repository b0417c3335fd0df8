"""Keeps passwords out of everything that people and log collectors read."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["masked", "redact"]

_MASK = "***"
# Greedy up to the last "@": passwords that hold an unescaped "@", ":" or "/" exist.
_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@'\"]*:)[^\s'\"]+(?=@)")
# A quoted value reaches to its closing quote, also inside of JSON text that is quoted itself.
_PAIR = re.compile(
    r"""(?P<head>\b[\w.-]*(?:password|passwd|secret|token)[\w.-]*\\?["']?\s*[=:]\s*)
        (?: (?P<quote>\\?["']) (?: (?!(?<!\\)(?P=quote)). )* | (?!\*\*\*)[^\s"',;&)]+ )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_SECRET_NAME = re.compile(r"password|passwd|secret|token|basic\.auth|ssl\.key\.pem|sasl\.jaas", re.IGNORECASE)


def redact(text: str) -> str:
    """Mask the password of every URL and every `password=…` pair in `text`."""
    return _PAIR.sub(rf"\g<head>\g<quote>{_MASK}", _URL_PASSWORD.sub(rf"\g<head>{_MASK}", text))


def masked(value: Any) -> Any:
    """JSON or librdkafka settings that may be shown: values of secret names are masked, at any depth."""
    if isinstance(value, Mapping):
        return {name: _MASK if _SECRET_NAME.search(str(name)) else masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    return redact(value) if isinstance(value, str) else value
