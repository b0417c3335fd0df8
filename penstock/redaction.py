"""Keeps passwords out of everything that people and log collectors read."""

import re
from collections.abc import Mapping

__all__ = ["redact", "redact_config"]

_MASK = "***"
# Greedy up to the last "@": passwords that hold an unescaped "@", ":" or "/" exist.
_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@'\"]*:)[^\s'\"]+(?=@)")
_PAIR = re.compile(
    r"(?P<head>\b[\w.-]*(?:password|passwd|secret|token)[\w.-]*[\"']?\s*[=:]\s*[\"']?)(?!\*\*\*)[^\s\"',;&)]+",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"password|passwd|secret|token|basic\.auth|ssl\.key\.pem|sasl\.jaas", re.IGNORECASE)


def redact(text: str) -> str:
    """Mask the password of every URL and every `password=…` pair in `text`."""
    return _PAIR.sub(rf"\g<head>{_MASK}", _URL_PASSWORD.sub(rf"\g<head>{_MASK}", text))


def redact_config(config: Mapping[str, object]) -> dict[str, object]:
    """A copy of librdkafka settings that may be shown: values of secret names are masked."""
    return {
        name: _MASK if _SECRET_NAME.search(name) else redact(value) if isinstance(value, str) else value
        for name, value in config.items()
    }
