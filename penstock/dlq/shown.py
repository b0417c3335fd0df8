"""Dead letters as JSON and as text. Nothing secret is shown: what looks like a password is masked."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from penstock.redaction import masked, redact
from penstock_consumer.dlq import Letter
from penstock_schemas.fields import EventFields

__all__ = ["letter_object", "text_of", "value_object"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEY: Final = 1024  # bytes of a key that are shown


def letter_object(letter: Letter, dead_letter_topic: str) -> dict[str, Any]:
    """Everything but the value, for programs."""
    mark = letter.mark
    return {
        "topic": letter.place.topic,
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "state": letter.state.value,
        "cause": letter.cause,
        "type": letter.event_type,
        "at": letter.at.isoformat(),
        "attempts": letter.attempts,
        "message": redact(letter.message),
        "exception": letter.exception,
        "stage": letter.stage,
        "group": letter.group,
        "key": None if letter.key is None else text_of(letter.key, _KEY),
        "timestamp": None if letter.timestamp is None else letter.timestamp.isoformat(),
        "reference": letter.reference,
        "headers_lost": letter.headers_lost,
        "dead_letter": {"topic": dead_letter_topic, "partition": letter.partition, "offset": letter.offset},
        "mark": None
        if mark is None
        else {
            "at": mark.at.isoformat(),
            "reason": redact(mark.reason),
            "to_partition": mark.to_partition,
            "to_offset": mark.to_offset,
        },
    }


def value_object(letter: Letter, fields: EventFields | None, limit: int) -> dict[str, Any]:
    """Headers and value: as an event, else as JSON, else as hexadecimal digits; at most `limit` bytes of
    it.
    """
    headers = {name: None if value is None else text_of(value, limit) for name, value in letter.headers}
    return {"bytes": len(letter.value), "headers": headers, **_value(letter.value, fields, limit)}


def text_of(data: bytes, limit: int) -> str:
    """UTF-8 with secrets masked, else hexadecimal digits after `0x`; cut at `limit` bytes, with a mark."""
    cut = "" if len(data) <= limit else f"… ({len(data)} bytes)"
    try:
        # Masked before it is cut: half of a secret is no longer recognised.
        text = redact(data.decode())
    except UnicodeDecodeError:
        return f"0x{data[:limit].hex()}{cut}"
    return text if not cut else text.encode()[:limit].decode(errors="ignore") + cut


def _value(value: bytes, fields: EventFields | None, limit: int) -> Mapping[str, Any]:
    if fields is not None:
        return {"form": "event", "value": _event(fields, limit)}
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return {"form": "bytes", "value": text_of(value, limit)}
    return {"form": "json", "value": _json(value, limit)}


def _event(fields: EventFields, limit: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in fields._asdict().items():
        if name == "event_id":
            shown[name] = str(UUID(bytes=value))
        elif name == "occurred_at":
            shown[name] = (_EPOCH + timedelta(microseconds=value)).isoformat()
        elif name in ("payload", "metadata"):
            shown[name] = _json(value, limit)
        elif name == "content_hash":
            shown[name] = value.hex()
        else:
            shown[name] = redact(value) if isinstance(value, str) else value
    return shown


def _json(text: bytes, limit: int) -> Any:
    """The JSON itself, secrets masked; its first bytes as text where it is too long."""
    if len(text) > limit:
        return text_of(text, limit)
    try:
        return masked(json.loads(text))
    except (ValueError, RecursionError):
        return text_of(text, limit)
