"""Avro schemas from pydantic payload models.

| Python | Avro |
|---|---|
| str, int, float, bool, bytes | string, long, double, boolean, bytes |
| datetime (aware), NaiveDatetime | long timestamp-micros, long local-timestamp-micros |
| date, time, UUID | int date, long time-micros, string uuid |
| Decimal with max_digits and decimal_places | bytes decimal(precision, scale); a value with more digits is
refused, not rounded |
| Decimal without | string, exact |
| Enum, Literal of texts | enum where every value is an Avro name, else string |
| IntEnum, Literal of whole numbers | long |
| list[X], tuple[X, ...] | array |
| dict[str, X] | map |
| X or None | union with null |
| another model | record |
| A or B | union, where their JSON forms differ: models by a Literal field of one value (a discriminator) |
"""

import json
import re
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, NaiveDatetime
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from penstock_schemas._avro_schema import Type, parse
from penstock_schemas._json_kinds import is_tagged
from penstock_schemas.envelope import envelope_schema
from penstock_schemas.errors import CannotDeriveSchema, UnsupportedSchema
from penstock_schemas.json_form import JsonForm
from penstock_schemas.limits import DecodeLimits
from penstock_schemas.payload import EventPayload

__all__ = ["payload_form", "payload_schema", "typed_schema"]

_TIMESTAMP = {"type": "long", "logicalType": "timestamp-micros"}
_SCALARS: list[
    tuple[type, Any]
] = [  # the first one that a type is a subclass of counts: bool is an int, datetime a date
    (bool, "boolean"),
    (int, "long"),
    (float, "double"),
    (str, "string"),
    (bytes, "bytes"),
    (AwareDatetime, _TIMESTAMP),
    (NaiveDatetime, {"type": "long", "logicalType": "local-timestamp-micros"}),
    (datetime, _TIMESTAMP),
    (date, {"type": "int", "logicalType": "date"}),
    (time, {"type": "long", "logicalType": "time-micros"}),
    (UUID, {"type": "string", "logicalType": "uuid"}),
]
_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@cache
def payload_schema(kind: type[EventPayload]) -> str:
    """The schema of a model's payload alone, as JSON text.

    Raises `CannotDeriveSchema`, naming the field and the way out.
    """
    schema = _Deriver(kind.avro_namespace).record(kind, kind.__name__)
    text = json.dumps(schema, separators=(",", ":"))
    try:
        _refuse_tagged(parse(text, DecodeLimits()), kind.__name__)
    except UnsupportedSchema as error:
        raise CannotDeriveSchema(f"{kind.__name__}: its schema would be refused: {error}") from None
    return text


@cache
def typed_schema(kind: type[EventPayload]) -> tuple[str, str]:
    """The full name and the schema of the envelope around a model's payload. Raises `CannotDeriveSchema`."""
    name = f"{kind.avro_namespace}.{kind.__name__}Event"
    doc = f"An event of type {kind.event_type}, version {kind.event_version}."
    schema = envelope_schema(name, json.loads(payload_schema(kind)), doc)
    return name, json.dumps(schema, separators=(",", ":"))


@cache
def payload_form(kind: type[EventPayload]) -> JsonForm:
    """The codec of a model's payload. Raises `CannotDeriveSchema`."""
    return JsonForm(payload_schema(kind))


class _Deriver:
    """Derives the types of one schema; a named type is defined where it is met first."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._defined: dict[str, object] = {}  # full name: the class that it stands for
        self._open: list[type[BaseModel]] = []

    def record(self, model: type[BaseModel], where: str) -> Any:
        if model in self._open:
            raise _cannot(
                where, f"{model.__name__} contains itself", "flatten it, or carry the inner one as JSON text"
            )
        known = self._define(model.__name__, model, where)
        if known:
            return known
        self._open.append(model)
        fields = [
            self._field(name, info, f"{model.__name__}.{name}") for name, info in model.model_fields.items()
        ]
        self._open.pop()
        return {"type": "record", "name": f"{self._namespace}.{model.__name__}", "fields": fields}

    def _define(self, name: str, owner: object, where: str) -> str | None:
        """The full name where the type is defined already; else note that it is now."""
        full = f"{self._namespace}.{name}"
        if not _AVRO_NAME.fullmatch(name):
            raise _cannot(
                where, f"{name!r} is no Avro name", "name it with ASCII letters, digits and underscores"
            )
        if full not in self._defined:
            self._defined[full] = owner
            return None
        if self._defined[full] != owner:
            raise _cannot(where, f"two types are called {name}", "rename one of them")
        return full

    def _field(self, name: str, info: FieldInfo, where: str) -> dict[str, Any]:
        if not _AVRO_NAME.fullmatch(name):
            raise _cannot(
                where, f"{name!r} is no Avro name", "name it with ASCII letters, digits and underscores"
            )
        kind = self._type(info.annotation, info.metadata, where)
        default = _default(info)
        if isinstance(kind, list) and default is not None and "null" in kind:
            kind = [branch for branch in kind if branch != "null"] + [
                "null"
            ]  # a default belongs to the first branch
        field: dict[str, Any] = {"name": name, "type": kind}
        if info.description:
            field["doc"] = info.description
        if default is not PydanticUndefined and _default_fits(kind, default):
            field["default"] = default
        return field

    def _type(self, annotation: Any, metadata: Sequence[Any], where: str) -> Any:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._type(args[0], [*metadata, *args[1:]], where)
        if origin in (Union, types.UnionType):
            return self._union(args, metadata, where)
        if origin is Literal:
            return self._choice(args, where)
        if origin in (list, Sequence) or (origin is tuple and args[1:] == (...,)):
            return {"type": "array", "items": self._type(args[0], (), f"{where}[]")}
        if origin in (dict, Mapping) and args[0] is str:
            return {"type": "map", "values": self._type(args[1], (), f"{where}[]")}
        if isinstance(annotation, type) and origin is None:
            return self._class(annotation, metadata, where)
        raise _cannot(where, f"{_shown(annotation)} has no Avro form", _WAY_OUT)

    def _class(self, kind: type, metadata: Sequence[Any], where: str) -> Any:
        if issubclass(kind, BaseModel):
            return self.record(kind, where)
        if issubclass(kind, Enum) and not issubclass(kind, IntEnum):
            return self._enum(kind.__name__, [member.value for member in kind], kind, where)
        if issubclass(kind, Decimal):
            return _decimal(metadata)
        for scalar, schema in _SCALARS:
            if issubclass(kind, scalar):
                return schema
        raise _cannot(where, f"{_shown(kind)} has no Avro form", _WAY_OUT)

    def _union(self, args: tuple[Any, ...], metadata: Sequence[Any], where: str) -> Any:
        branches: list[Any] = []
        for arg in args:
            branch = "null" if arg is type(None) else self._type(arg, metadata, where)
            branches += branch if isinstance(branch, list) else [branch]
        return sorted(branches, key=lambda branch: branch != "null")

    def _choice(self, values: tuple[Any, ...], where: str) -> Any:
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            return "long"
        name = where.replace("[]", "_item").replace(".", "_")
        return self._enum(name, list(values), (name, values), where)

    def _enum(self, name: str, values: list[Any], owner: object, where: str) -> Any:
        if not all(isinstance(value, str) for value in values):
            raise _cannot(where, f"{name} has values that are no texts", "use texts, or an IntEnum")
        if not all(_AVRO_NAME.fullmatch(value) for value in values):
            return "string"
        known = self._define(name, owner, where)
        return known or {"type": "enum", "name": f"{self._namespace}.{name}", "symbols": values}


_WAY_OUT = "use one of the types in the table of penstock_schemas.derive, or a str that holds JSON"


def _cannot(where: str, what: str, way_out: str) -> CannotDeriveSchema:
    return CannotDeriveSchema(f"{where}: {what}; {way_out}")


def _shown(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


def _decimal(metadata: Sequence[Any]) -> Any:
    flat = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    found: dict[str, int] = {}
    for item in flat:
        for name in ("max_digits", "decimal_places"):
            value = getattr(item, name, None)
            if value is not None:
                found[name] = value
    if len(found) < 2:
        return "string"
    return {
        "type": "bytes",
        "logicalType": "decimal",
        "precision": found["max_digits"],
        "scale": found["decimal_places"],
    }


def _default(info: FieldInfo) -> Any:
    if info.default_factory in (list, tuple):
        return []
    if info.default_factory is dict:
        return {}
    return info.default.value if isinstance(info.default, Enum) else info.default


def _default_fits(kind: Any, default: Any) -> bool:
    """Whether Avro can hold the default of this type.

    (Logical types' defaults would be in wire units: they are left out.)
    """
    first = kind[0] if isinstance(kind, list) else kind
    name = first.get("type") if isinstance(first, dict) and "logicalType" not in first else first
    match default:
        case None:
            return name == "null"
        case bool():
            return name == "boolean"
        case int():
            return name in ("long", "double")
        case float():
            return name == "double" and default == default and abs(default) != float("inf")
        case str():
            return name == "string" or (name == "enum" and default in first["symbols"])
        case []:
            return name == "array"
        case dict():
            return name == "map" and not default
        case _:
            return False


def _refuse_tagged(kind: Type, where: str) -> None:
    if kind.kind == "union" and is_tagged(kind):
        alike = ", ".join(branch.label for branch in kind.branches if branch.kind != "null")
        raise _cannot(
            where,
            f"the alternatives {alike} look alike in JSON",
            "give each model a Literal field of one value, or keep one number type",
        )
    for field in kind.fields:
        _refuse_tagged(field.type, f"{where}.{field.name}")
    for part in [*kind.branches, *([kind.items] if kind.items else [])]:
        _refuse_tagged(part, where)
