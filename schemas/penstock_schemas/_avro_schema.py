"""Avro schemas as a graph of resolved types, with the bounds that make decoding under a hostile schema safe.

Text → `parse()` → `Type`. Names are resolved, references replaced by the type itself (so a type may be
shared, never circular).
"""

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from penstock_schemas.errors import UnsupportedSchema
from penstock_schemas.limits import DecodeLimits, check_schema_text

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAMED = frozenset({"record", "error", "enum", "fixed"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TIMES = (f"{zone}timestamp-{unit}" for zone in ("", "local-") for unit in ("millis", "micros", "nanos"))
_LOGICAL = {
    **dict.fromkeys(("date", "time-millis"), ("int",)),
    **dict.fromkeys(("time-micros", *_TIMES), ("long",)),
    "uuid": ("string", "fixed"),
    "decimal": ("bytes", "fixed"),
    "duration": ("fixed",),
}

MISSING = object()
"""The default of a field that has none."""


@dataclass(slots=True, kw_only=True, eq=False)
class Type:
    """One Avro type. Which attributes are set depends on `kind`, as in the specification."""

    kind: str
    logical: str | None = None
    name: str = ""
    """Full name of a record, enum or fixed."""
    fields: list["Field"] = field(default_factory=list)
    branches: list["Type"] = field(default_factory=list)
    items: "Type | None" = None
    """Of an array; the values' type of a map."""
    symbols: tuple[str, ...] = ()
    size: int = 0
    precision: int = 0
    scale: int = 0
    depth: int = 1
    excess: int = 0
    """Upper bound of (values out) - values_per_byte * (bytes in), over all choices of union branches."""

    @property
    def label(self) -> str:
        """What a union's branch is called."""
        return self.name or self.kind


@dataclass(slots=True, kw_only=True)
class Field:
    name: str
    type: Type
    default: Any


def parse(text: str, limits: DecodeLimits) -> Type:
    """The schema's type.

    Raises `UnsupportedSchema`, naming the place, for what is not Avro or is beyond the limits.
    """
    check_schema_text(text, limits)
    try:
        schema = orjson.loads(text)
    except ValueError as error:
        raise UnsupportedSchema(f"the schema is not JSON: {error}") from None
    try:
        root = _Parser(limits).type_of(schema, "", "the schema")
    except RecursionError:  # only under limits far wider than the defaults
        raise UnsupportedSchema(
            "the schema is nested too deep for this process; lower max_schema_nesting"
        ) from None
    if root.excess > limits.max_fixed_values:
        raise UnsupportedSchema(
            f"one record of {root.label} holds {root.excess} values that take no bytes,"
            f" more than the limit of {limits.max_fixed_values} (max_fixed_values)"
        )
    return root


class _Parser:
    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        # None while a type is being read: meeting it then is recursion.
        self._named: dict[str, Type | None] = {}

    def type_of(self, schema: Any, namespace: str, where: str) -> Type:
        if isinstance(schema, str):
            return self._reference(schema, namespace, where)
        if isinstance(schema, list):
            return self._union(schema, namespace, where)
        if not isinstance(schema, dict):
            raise UnsupportedSchema(
                f"{where}: {schema!r} is no Avro type; write a name, an object or an array"
            )
        kind = schema.get("type")
        if isinstance(kind, dict | list):
            return self.type_of(kind, namespace, where)
        if kind in _NAMED:
            return self._define(schema, str(kind), namespace, where)
        if kind in ("array", "map"):
            return self._collection(schema, str(kind), namespace, where)
        if kind in PRIMITIVES:
            return self._measure(_with_logical(Type(kind=str(kind)), schema), where)
        if isinstance(kind, str):
            return self._reference(kind, namespace, where)
        raise UnsupportedSchema(f"{where}: has no type; write one, for example {{'type': 'string'}}")

    def _reference(self, name: str, namespace: str, where: str) -> Type:
        if name in PRIMITIVES:
            return self._measure(Type(kind=name), where)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        key = full if full in self._named else name
        if key not in self._named:
            raise UnsupportedSchema(f"{where}: the type {name!r} is not defined before this place")
        known = self._named[key]
        if known is None:
            raise UnsupportedSchema(
                f"{where}: {key} contains itself; recursive schemas are refused, since a short record"
                " under one can be nested without bound"
            )
        return known

    def _define(self, schema: dict[str, Any], kind: str, namespace: str, where: str) -> Type:
        name, namespace = _full_name(schema, namespace, where)
        if name in self._named:
            raise UnsupportedSchema(f"{where}: {name} is defined twice")
        self._named[name] = None
        if kind == "enum":
            made = Type(kind="enum", name=name, symbols=_symbols(schema, name))
        elif kind == "fixed":
            size = schema.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise UnsupportedSchema(f"{name}: size is {size!r}; a fixed needs its number of bytes")
            made = _with_logical(Type(kind="fixed", name=name, size=size), schema)
        else:
            made = Type(kind="record", name=name, fields=self._fields(schema, name, namespace))
        self._named[name] = self._measure(made, where)
        return made

    def _fields(self, schema: dict[str, Any], name: str, namespace: str) -> list[Field]:
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise UnsupportedSchema(f"{name}: a record needs its fields as an array")
        found: dict[str, Field] = {}
        for item in fields:
            own = item.get("name") if isinstance(item, dict) else None
            if not isinstance(own, str) or not _NAME.fullmatch(own):
                raise UnsupportedSchema(
                    f"{name}: a field's name is {own!r}; Avro allows letters, digits and underscores"
                )
            if own in found:
                raise UnsupportedSchema(f"{name}: the field {own} is there twice")
            kind = self.type_of(item.get("type"), namespace, f"{name}.{own}")
            found[own] = Field(name=own, type=kind, default=item.get("default", MISSING))
        return list(found.values())

    def _union(self, schema: list[Any], namespace: str, where: str) -> Type:
        if not schema:
            raise UnsupportedSchema(f"{where}: a union without branches holds nothing")
        branches = [self.type_of(branch, namespace, where) for branch in schema]
        labels = [branch.label for branch in branches]
        if any(branch.kind == "union" for branch in branches) or len(set(labels)) < len(labels):
            raise UnsupportedSchema(
                f"{where}: a union's branches have to be different types, none a union: {labels}"
            )
        return self._measure(Type(kind="union", branches=branches), where)

    def _collection(self, schema: dict[str, Any], kind: str, namespace: str, where: str) -> Type:
        key = "items" if kind == "array" else "values"
        if key not in schema:
            raise UnsupportedSchema(f"{where}: {kind} without {key}")
        items = self.type_of(schema[key], namespace, f"{where}[]")
        key_bytes = self._limits.values_per_byte if kind == "map" else 0
        if items.excess - key_bytes > 0:
            raise UnsupportedSchema(
                f"{where}: an item of this {kind} can become more than {self._limits.values_per_byte} values"
                " a byte (values_per_byte); a few bytes could fill the memory"
            )
        return self._measure(Type(kind=kind, items=items), where)

    def _measure(self, made: Type, where: str) -> Type:
        """Set the bounds of a type whose parts are measured."""
        byte = self._limits.values_per_byte
        parts = [f.type for f in made.fields] + made.branches + ([made.items] if made.items else [])
        made.depth = 1 + max((part.depth for part in parts), default=0)
        if made.depth > self._limits.max_type_depth:
            raise UnsupportedSchema(
                f"{where}: types are nested deeper than {self._limits.max_type_depth} (max_type_depth)"
            )
        match made.kind:
            case "null":
                made.excess = 1
            case "fixed":
                made.excess = 1 - byte * made.size
            case "record":
                made.excess = 1 + sum(part.excess for part in parts)
            case "union":
                made.excess = 1 - byte + max(part.excess for part in parts)
            case _:
                made.excess = 1 - byte
        return made


def _full_name(schema: dict[str, Any], namespace: str, where: str) -> tuple[str, str]:
    name = schema.get("name")
    if not isinstance(name, str):
        raise UnsupportedSchema(f"{where}: a {schema['type']} needs a name")
    if "." in name:
        namespace = name.rpartition(".")[0]
    else:
        namespace = schema.get("namespace", namespace) or ""
        name = f"{namespace}.{name}" if namespace else name
    if not all(_NAME.fullmatch(part) for part in name.split(".")):
        raise UnsupportedSchema(f"{where}: {name!r} is no Avro name; use letters, digits and underscores")
    return name, namespace


def _symbols(schema: dict[str, Any], name: str) -> tuple[str, ...]:
    symbols = schema.get("symbols")
    if not isinstance(symbols, list) or not all(isinstance(s, str) and _NAME.fullmatch(s) for s in symbols):
        raise UnsupportedSchema(f"{name}: an enum needs its symbols as an array of Avro names")
    if not symbols or len(set(symbols)) < len(symbols):
        raise UnsupportedSchema(f"{name}: symbols have to be different, and one at least: {symbols}")
    return tuple(symbols)


def _with_logical(made: Type, schema: dict[str, Any]) -> Type:
    """Set the logical type; one that is unknown or invalid is ignored, as the specification asks."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str) or made.kind not in _LOGICAL.get(logical, ()):
        return made
    size = {"duration": 12, "uuid": 16}.get(logical, made.size)
    if made.kind == "fixed" and made.size != size:
        return made
    if logical == "decimal":
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if not (isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision >= 1):
            return made
        made.precision, made.scale = precision, scale
    made.logical = logical
    return made
