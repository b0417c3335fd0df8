"""Which Avro types each field of the envelope may have, and how it is read from them."""

from collections.abc import Callable
from typing import Any

import orjson

from penstock_schemas._avro_schema import Field, Type
from penstock_schemas._finish import uuid_bytes
from penstock_schemas._forms import Form, Forms
from penstock_schemas._logical import Convert
from penstock_schemas.errors import DecodeError, DecodeReason, UnsupportedSchema

REQUIRED = object()
DEFAULTS: dict[str, Any] = {
    "event_id": REQUIRED,
    "event_type": REQUIRED,
    "occurred_at": REQUIRED,
    "actor_type": None,
    "actor_id": None,
    "entity_id": REQUIRED,
    "tenant_id": "default",
    "correlation_id": None,
    "causation_id": None,
    "schema_version": 1,
    "idempotency_key": None,
    "content_hash": None,
    "payload": REQUIRED,
    "metadata": b"{}",
}
"""The envelope's fields in the order of `finish`'s arguments, with what stands in for an absent one."""
REQUIRED_NAMES = [name for name, default in DEFAULTS.items() if default is REQUIRED]

Accept = Callable[[Type, Form], Form | None]
"""From a type and its own form to its form in the envelope; None: this field cannot have it."""


def field_form(field: Field, forms: Forms) -> Form:
    """The form of an envelope's field, in wire units (`to_json` makes them); of any other field, its own.

    Raises `UnsupportedSchema` where the field's type cannot carry it.
    """
    kind = field.type
    if field.name not in _WANTED:
        return forms.of(kind)
    accept, wanted = _WANTED[field.name]
    made = []
    for branch in kind.branches if kind.kind == "union" else [kind]:
        own = forms.of(branch)
        accepted = own if branch.kind == "null" and kind.kind == "union" else accept(branch, own)
        if accepted is None:
            found = f"{branch.kind} ({branch.logical})" if branch.logical else branch.kind
            raise UnsupportedSchema(f"the envelope's field {field.name} is {found}; it has to be {wanted}")
        made.append(accepted)
    return forms.union(kind, made, tagged=False) if kind.kind == "union" else made[0]


def _text(kind: Type, form: Form) -> Form | None:
    """Text, or what has one obvious text: a whole number, a UUID."""
    if kind.kind == "enum" or kind.logical == "uuid" or (kind.kind == "string" and not kind.logical):
        return form
    if kind.kind in ("int", "long") and not kind.logical:
        return form._replace(schema=kind.kind, to_json=str)
    return None


def _event_id(kind: Type, form: Form) -> Form | None:
    if kind.kind == "string":
        return form._replace(schema="string", to_json=_parse_uuid)
    return _sixteen_bytes(kind, form)


def _sixteen_bytes(kind: Type, form: Form) -> Form | None:
    return form._replace(to_json=None) if kind.kind == "fixed" and kind.size == 16 else None


def _parse_uuid(text: str) -> bytes:
    try:
        return uuid_bytes(text)
    except ValueError:
        raise DecodeError(
            DecodeReason.INVALID_FIELD,
            f"is {text!r:.60}, which is no UUID; derive one from a foreign id (UUIDv5 of source and id)",
        ) from None


_MICROSECONDS: dict[str | None, Convert | None] = {
    "timestamp-millis": lambda value: value * 1_000,
    "timestamp-micros": None,
    "timestamp-nanos": lambda value: value // 1_000,
}


def _time(kind: Type, form: Form) -> Form | None:
    known = kind.logical in _MICROSECONDS
    return form._replace(schema="long", to_json=_MICROSECONDS[kind.logical]) if known else None


def _version(kind: Type, form: Form) -> Form | None:
    return form if kind.kind in ("int", "long") and not kind.logical else None


def _hash(kind: Type, form: Form) -> Form | None:
    if kind.kind == "bytes" and not kind.logical:
        return form._replace(schema="bytes", to_json=None)
    return _sixteen_bytes(kind, form)


def _json(kind: Type, form: Form) -> Form | None:
    if kind.kind in ("string", "bytes") and not kind.logical:
        # The two look the same on the wire; orjson checks the UTF-8.
        return form._replace(schema="bytes", to_json=None)
    to_json = form.to_json
    write = orjson.dumps if to_json is None else lambda value: orjson.dumps(to_json(value))
    return form._replace(to_json=write) if kind.kind in ("record", "map") else None


_TEXT = (_text, "a string, an enum, a whole number or a UUID")
_OBJECT = (_json, "JSON text (string or bytes), a record or a map")
_WANTED: dict[str, tuple[Accept, str]] = {
    **dict.fromkeys(DEFAULTS, _TEXT),
    "event_id": (_event_id, "a string or a fixed of 16 bytes, with a UUID"),
    "occurred_at": (_time, "a long with logicalType timestamp-millis, timestamp-micros or timestamp-nanos"),
    "schema_version": (_version, "an int or a long"),
    "content_hash": (_hash, "bytes or a fixed of 16 bytes"),
    "payload": _OBJECT,
    "metadata": _OBJECT,
}
