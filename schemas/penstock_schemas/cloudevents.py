"""CloudEvents 1.0, JSON format (https://github.com/cloudevents/spec, formats/json-format.md), to events."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from penstock_schemas.errors import InvalidEvent
from penstock_schemas.event import Event, foreign_event_id

__all__ = ["event_from_cloudevent"]

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)  # RFC 3339, section 5.6
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_JSON_TYPE = re.compile(r"[^/;\s]+/(?:json|[^/;\s]+\+json)\s*(?:;.*)?", re.IGNORECASE)

_EXTENSIONS = {
    "actorid": "actor_id",
    "actortype": "actor_type",
    "causationid": "causation_id",
    "correlationid": "correlation_id",
    "idempotencykey": "idempotency_key",
    "tenantid": "tenant_id",
}
_CORE = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "data", "data_base64", "schemaversion"}
)
_NAMES = {
    **{field: name for name, field in _EXTENSIONS.items()},
    "event_type": "type",
    "entity_id": "subject",
    "occurred_at": "time",
    "payload": "data",
    "schema_version": "schemaversion",
    "event_id": "id",
    "idempotency_key": "idempotencykey",
    "metadata": "extensions",
}
"""The CloudEvents attribute that each of our fields comes from, for error messages."""


def event_from_cloudevent(
    cloudevent: Mapping[str, Any], *, now: Callable[[], datetime] | None = None
) -> Event:
    """The event that a CloudEvent describes.

    Raises `InvalidEvent`; its `field` is the CloudEvents attribute at fault.

    - `type` → event_type; `subject` → entity_id (`source` where there is none).
    - `time` → occurred_at (`now()` where there is none); digits beyond the microsecond are cut off.
    - `id` → event_id where it is a UUID, else the UUIDv5 of (source, id). Both stay in
      `metadata["cloudevents"]`, with every attribute that has no field here.
    - idempotency_key is `"<source> <id>"`, which CloudEvents makes unique; the extension
      `idempotencykey` overrules it.
    - The extensions `actorid`, `actortype`, `tenantid`, `correlationid`, `causationid` and
      `schemaversion` fill their fields.
    - `data` is the payload where it is an object. Any other value, and text that is not JSON, becomes
      `{"data": …}`; `data_base64` becomes `{"data_base64": …}`; no data becomes `{}`.
    """
    if not isinstance(cloudevent, Mapping):
        raise InvalidEvent("cloudevent", f"is a JSON {type(cloudevent).__name__}, not an object")
    if cloudevent.get("specversion") != "1.0":
        raise InvalidEvent("specversion", f"is {cloudevent.get('specversion')!r}; only '1.0' is read")
    source, own_id = _required(cloudevent, "source"), _required(cloudevent, "id")
    if re.search(r"\s", source):
        raise InvalidEvent("source", "holds white space, which no URI reference does; percent-encode it")
    fields: dict[str, Any] = {
        "event_type": _required(cloudevent, "type"),
        "entity_id": _text(cloudevent, "subject") or source,
        "occurred_at": _time(cloudevent.get("time"), now),
        "event_id": foreign_event_id(source, own_id),
        "idempotency_key": f"{source} {own_id}",
        "payload": _payload(cloudevent),
        "metadata": {"cloudevents": _rest(cloudevent, source, own_id)},
    }
    for name, field in _EXTENSIONS.items():
        value = _text(cloudevent, name)
        if value is not None:
            fields[field] = value
    if cloudevent.get("schemaversion") is not None:
        fields["schema_version"] = _version(cloudevent["schemaversion"])
    try:
        return Event(**fields)
    except ValidationError as error:
        raise _invalid(error, "idempotencykey" in cloudevent) from None


def _required(cloudevent: Mapping[str, Any], name: str) -> str:
    value = cloudevent.get(name)
    if value is None:
        raise InvalidEvent(name, "is missing; CloudEvents requires it")
    if not isinstance(value, str) or not value:
        raise InvalidEvent(name, f"is {value!r:.60}; CloudEvents requires a text that is not empty")
    return value


def _text(cloudevent: Mapping[str, Any], name: str) -> str | None:
    """An optional attribute as text. CloudEvents also allows whole numbers; null counts as absent."""
    value = cloudevent.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and value):
        return value
    raise InvalidEvent(name, f"is {value!r:.60}; write a text that is not empty, or leave it out")


def _time(value: object, now: Callable[[], datetime] | None) -> datetime:
    if value is None:
        return now() if now else datetime.now(UTC)
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidEvent(
            "time", f"is {value!r:.60}; write it as RFC 3339 does, for example 2026-01-31T12:00:00Z"
        )
    day, clock, fraction, zone = match.groups()
    microseconds = (fraction or "").ljust(6, "0")[:6]
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{microseconds}{zone.upper()}")
    except ValueError as error:
        raise InvalidEvent("time", f"is {value!r:.60}, which is no time: {error}") from None


def _version(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidEvent("schemaversion", f"is {value!r:.60}; write a whole number from 1")


def _payload(cloudevent: Mapping[str, Any]) -> dict[str, Any]:
    if "data_base64" in cloudevent:
        if cloudevent.get("data") is not None:
            raise InvalidEvent("data_base64", "stands beside data; CloudEvents allows one of them")
        if not isinstance(cloudevent["data_base64"], str):
            raise InvalidEvent("data_base64", "is not a string of base64")
        return {"data_base64": cloudevent["data_base64"]}
    data = cloudevent.get("data")
    if data is None:
        return {}
    kind = cloudevent.get("datacontenttype", "application/json")
    if not isinstance(kind, str):
        raise InvalidEvent(
            "datacontenttype", f"is {kind!r:.60}; write a media type, for example application/json"
        )
    return data if isinstance(data, dict) and _JSON_TYPE.fullmatch(kind) else {"data": data}


def _rest(cloudevent: Mapping[str, Any], source: str, own_id: str) -> dict[str, Any]:
    rest: dict[str, Any] = {"id": own_id, "source": source}
    for name, value in cloudevent.items():
        if name in _CORE or name in _EXTENSIONS or value is None:
            continue
        if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
            raise InvalidEvent(
                str(name), "is no CloudEvents attribute: names are lower-case letters and digits"
            )
        if not isinstance(value, str | int):
            raise InvalidEvent(
                name, f"is a {type(value).__name__}; extensions are texts, whole numbers or booleans"
            )
        if name != "datacontenttype" or value != "application/json":
            rest[name] = value
    return rest


def _invalid(error: ValidationError, has_key: bool) -> InvalidEvent:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "cloudevent"
    if field == "idempotency_key" and not has_key:
        return InvalidEvent("id", f"together with source {_said(first)}")
    return InvalidEvent(_NAMES.get(field, field), _said(first))


def _said(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")
