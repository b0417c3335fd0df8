"""What each Avro type is to fastavro, which reads it, and how what it reads becomes a JSON form.

fastavro never sees a foreign schema, but one made of the guarded type: no defaults, aliases, logical types
and names of others. It differs from the original where fastavro is lax, never in a byte: a boolean is a fixed
of one byte (any byte would be true), an enum an int (a negative one would count from the end). In a union of
several branches beside null, each is in a record of one field, `b<position>`, which tells the branch and adds
nothing to the wire.
"""

from itertools import count
from typing import Any, NamedTuple

from penstock_schemas._avro_schema import Type
from penstock_schemas._json_kinds import is_tagged
from penstock_schemas._logical import Convert
from penstock_schemas._scalars import scalar
from penstock_schemas.errors import DecodeError


class Form(NamedTuple):
    schema: Any
    """fastavro's, of one place: a named type is defined in the first and referred to by the others."""
    to_json: Convert | None
    """From what fastavro reads, which it may change; None: that is the JSON form. Raises `DecodeError`."""


class Forms:
    """The forms of one schema's types."""

    def __init__(self) -> None:
        self._names = count()
        self._named: dict[str, Form] = {}

    def of(self, kind: Type) -> Form:
        known = self._named.get(kind.name) if kind.name else None
        if known is None:
            known = self._make(kind)
            if kind.name:
                short = known.schema if kind.kind == "enum" else known.schema["name"]
                self._named[kind.name] = known._replace(schema=short)
        return known

    def _make(self, kind: Type) -> Form:
        match kind.kind:
            case "record":
                return self._record(kind)
            case "union":
                forms = [self.of(branch) for branch in kind.branches]
                return self.union(kind, forms, tagged=is_tagged(kind))
            case "array" | "map":
                assert kind.items is not None  # noqa: S101 - the parser sets it for both
                return (_array if kind.kind == "array" else _map)(self.of(kind.items))
            case "enum":
                return Form("int", scalar(kind)[0])
        schema: Any = kind.kind
        if kind.kind in ("fixed", "boolean"):
            schema = {"type": "fixed", "name": self._name(), "size": kind.size if kind.kind == "fixed" else 1}
        return Form(schema, scalar(kind)[0])

    def _name(self) -> str:
        return f"t{next(self._names)}"

    def _record(self, kind: Type) -> Form:
        name = self._name()
        forms = {own.name: self.of(own.type) for own in kind.fields}
        fields = [{"name": own, "type": form.schema} for own, form in forms.items()]
        return Form(
            {"type": "record", "name": name, "fields": fields},
            _record_to_json([(own, form.to_json) for own, form in forms.items() if form.to_json]),
        )

    def union(self, kind: Type, forms: list[Form], *, tagged: bool) -> Form:
        """A union of branches that have these forms."""
        boxed = sum(branch.kind != "null" for branch in kind.branches) > 1
        schemas: list[Any] = []
        readers: dict[str, tuple[str, Convert | None]] = {}
        for index, (branch, form) in enumerate(zip(kind.branches, forms, strict=True)):
            schema, key = form.schema, f"b{index}" if boxed and branch.kind != "null" else ""
            if key:
                field = {"name": key, "type": schema}
                schema = {"type": "record", "name": self._name(), "fields": [field]}
            schemas.append(schema)
            if branch.kind != "null":
                readers[key] = branch.label, form.to_json
        read = _unbox(readers, tagged=tagged) if boxed else _unless_null(readers.get("", ("", None))[1])
        return Form(schemas, read)


def _unless_null(convert: Convert | None) -> Convert | None:
    return convert and (lambda value: None if value is None else convert(value))


def _unbox(readers: dict[str, tuple[str, Convert | None]], *, tagged: bool) -> Convert | None:
    def to_json(value: Any) -> Any:
        ((key, inner),) = value.items()
        label, convert = readers[key]
        inner = inner if convert is None else convert(inner)
        return {label: inner} if tagged else inner

    return _unless_null(to_json)


def _record_to_json(fields: list[tuple[str, Convert]]) -> Convert | None:
    def to_json(value: Any) -> Any:
        name = ""
        try:
            for name, convert in fields:
                value[name] = convert(value[name])
        except DecodeError as error:
            raise DecodeError(error.reason, f"{name}: {error}") from None
        return value

    return to_json if fields else None


def _array(item: Form) -> Form:
    convert = item.to_json
    to_json = convert and (lambda value: [convert(inner) for inner in value])
    return Form({"type": "array", "items": item.schema}, to_json)


def _map(item: Form) -> Form:
    convert = item.to_json
    to_json = convert and (lambda value: {key: convert(inner) for key, inner in value.items()})
    return Form({"type": "map", "values": item.schema}, to_json)
