"""What each Avro type is to fastavro, and how its values become JSON forms and go back.

fastavro never sees a foreign schema, but one made of the guarded type: no defaults, aliases, logical types
and names of others. It differs from the original where fastavro is lax, never in a byte: a boolean is a fixed
of one byte (any byte would be true), an enum an int (a negative one would count from the end). In a union of
several branches beside null, each is in a record of one field, `b<position>`, which tells the branch and adds
nothing to the wire.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple

from penstock_schemas._avro_schema import MISSING, Field, Type
from penstock_schemas._json_kinds import is_tagged, json_kind
from penstock_schemas._logical import Convert
from penstock_schemas._scalars import LOGICAL, PRIMITIVES, BadValue, decimal, enum, fixed, text, wrong
from penstock_schemas.errors import DecodeError


class Form(NamedTuple):
    schema: Any
    """fastavro's, of one place: a named type is defined in the first and referred to by the others."""
    to_json: Convert | None
    """From what fastavro reads, which it may change; None: that is the JSON form. Raises `DecodeError`."""
    from_json: Convert
    """To what fastavro writes, also from the objects that JSON forms stand for.

    Raises ValueError or OverflowError.
    """


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
                return Form("int", *enum(kind.symbols))
        schema: Any = kind.kind
        if kind.kind in ("fixed", "boolean"):
            schema = {"type": "fixed", "name": self._name(), "size": kind.size if kind.kind == "fixed" else 1}
        if kind.logical == "decimal":
            return Form(schema, *decimal(kind))
        if kind.logical:
            return Form(schema, *LOGICAL["string" if kind.kind == "string" else kind.logical])
        return Form(schema, *(fixed(kind.size) if kind.kind == "fixed" else PRIMITIVES[kind.kind]))

    def _name(self) -> str:
        return f"t{next(self._names)}"

    def _record(self, kind: Type) -> Form:
        name = self._name()
        forms = {own.name: self.of(own.type) for own in kind.fields}
        fields = [{"name": own, "type": form.schema} for own, form in forms.items()]
        return Form(
            {"type": "record", "name": name, "fields": fields},
            _record_to_json([(own, form.to_json) for own, form in forms.items() if form.to_json]),
            _record_from_json([(own, forms[own.name].from_json) for own in kind.fields]),
        )

    def union(self, kind: Type, forms: list[Form], *, tagged: bool) -> Form:
        """A union of branches that have these forms."""
        boxed = sum(branch.kind != "null" for branch in kind.branches) > 1
        schemas: list[Any] = []
        readers: dict[str, tuple[str, Convert | None]] = {}
        writers: list[_Writer] = []
        for index, (branch, form) in enumerate(zip(kind.branches, forms, strict=True)):
            schema, key = form.schema, f"b{index}" if boxed and branch.kind != "null" else ""
            if key:
                field = {"name": key, "type": schema}
                schema = {"type": "record", "name": self._name(), "fields": [field]}
            schemas.append(schema)
            readers[key] = branch.label, form.to_json
            name = schema if isinstance(schema, str) else schema.get("name", schema["type"])
            writers.append(_Writer(name, branch, key, form.from_json))
        read = _unbox(readers, tagged=tagged) if boxed else _unless_null(readers[""][1])
        return Form(schemas, read, _by_tag(writers) if tagged else _by_trial(writers))


class _Writer(NamedTuple):
    name: str  # what fastavro calls the branch
    branch: Type
    key: str  # the field of the branch's box, if it has one
    convert: Convert

    def write(self, value: Any) -> tuple[str, Any]:
        made = self.convert(value)
        return self.name, {self.key: made} if self.key else made


def _unless_null(convert: Convert | None) -> Convert | None:
    return convert and (lambda value: None if value is None else convert(value))


def _unbox(readers: dict[str, tuple[str, Convert | None]], *, tagged: bool) -> Convert | None:
    def to_json(value: Any) -> Any:
        ((key, inner),) = value.items()
        label, convert = readers[key]
        inner = inner if convert is None else convert(inner)
        return {label: inner} if tagged else inner

    return _unless_null(to_json)


def _by_tag(writers: list[_Writer]) -> Convert:
    def from_json(value: Any) -> Any:
        label, inner = "null", value
        if isinstance(value, Mapping) and len(value) == 1:
            ((label, inner),) = value.items()
        for writer in writers:
            if writer.branch.label == label and (label != "null" or value is None):
                return writer.write(inner)
        known = ", ".join(writer.branch.label for writer in writers)
        raise BadValue(f"is {value!r:.80}; write {{<branch>: value}} with one of {known}")

    return from_json


def _by_trial(writers: list[_Writer]) -> Convert:
    """The first branch that takes the value; where none does, the fault furthest inside is told."""
    # Numbers first: a decimal, which is text in JSON, takes an integer as well.
    order = sorted(writers, key=lambda writer: json_kind(writer.branch) != "number")
    null = [writer for writer in order if writer.branch.kind == "null"]
    order = [writer for writer in order if writer not in null] or null

    def from_json(value: Any) -> Any:
        faults: list[BadValue] = []
        for writer in null if null and value is None else order:
            try:
                return writer.write(value)
            except (ValueError, OverflowError) as error:
                faults.append(BadValue.under("", error))
        deepest = max(fault.path.count(".") for fault in faults)
        said = [fault for fault in faults if fault.path.count(".") == deepest]
        raise BadValue("; or ".join(map(str, said)), said[0].path)

    return from_json


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


def _record_from_json(fields: list[tuple[Field, Convert]]) -> Convert:
    names = {own.name for own, _ in fields}
    converts = [(own.name, convert) for own, convert in fields]

    def from_json(value: Any) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise wrong("an object", value)
        made, name = {}, ""
        absent: dict[str, Field] = {}
        if value.keys() != names:
            if unknown := value.keys() - names:
                known = ", ".join(sorted(names))
                raise BadValue(f"is unknown to the schema; it has {known}", str(min(unknown, key=str)))
            absent = {own.name: own for own, _ in fields if own.name not in value}
        try:
            for name, convert in converts:
                made[name] = convert(_default(absent[name]) if name in absent else value[name])
        except (ValueError, OverflowError) as error:
            raise BadValue.under(name, error) from None
        return made

    return from_json


def _default(own: Field) -> Any:
    """The JSON form of a field's default. A union's default belongs to its first branch."""
    if own.default is MISSING:
        raise BadValue("is missing, and has no default")
    kind = own.type.branches[0] if own.type.kind == "union" else own.type
    if own.default is not None and (kind.logical or kind.kind in ("bytes", "fixed")):
        said = "is missing, and its default is written in Avro's own notation; give the value"
        raise BadValue(said)
    tagged = own.type.kind == "union" and is_tagged(own.type) and own.default is not None
    return {kind.label: own.default} if tagged else own.default


def _array(item: Form) -> Form:
    convert, write = item.to_json, item.from_json

    def from_json(value: Any) -> Any:
        if not isinstance(value, list | tuple | set | frozenset):
            raise wrong("an array", value)
        return [_under(f"[{index}]", write, inner) for index, inner in enumerate(value)]

    to_json = convert and (lambda value: [convert(inner) for inner in value])
    return Form({"type": "array", "items": item.schema}, to_json, from_json)


def _map(item: Form) -> Form:
    convert, write = item.to_json, item.from_json

    def from_json(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise wrong("an object", value)
        return {text(key): _under(str(key), write, inner) for key, inner in value.items()}

    to_json = convert and (lambda value: {key: convert(inner) for key, inner in value.items()})
    return Form({"type": "map", "values": item.schema}, to_json, from_json)


def _under(step: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except (ValueError, OverflowError) as error:
        raise BadValue.under(step, error) from None
