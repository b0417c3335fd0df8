"""Writing values with parts: unions, records, arrays, maps; `_scalars` says what writing is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock_schemas import _avro_bytes as avro
from penstock_schemas._avro_schema import MISSING, Field, Type
from penstock_schemas._json_kinds import is_tagged, json_kind
from penstock_schemas._scalars import BadValue, Write, text, wrong


class Branch(NamedTuple):
    type: Type
    prefix: bytes
    write: Write


def by_tag(branches: list[Branch]) -> Write:
    def write(value: Any, out: bytearray) -> Any:
        label, inner = "null", value
        if isinstance(value, Mapping) and len(value) == 1:
            ((label, inner),) = value.items()
        for kind, prefix, write_branch in branches:
            if kind.label == label and (label != "null" or value is None):
                out += prefix
                form = write_branch(inner, out)
                return {label: form} if label != "null" else None
        known = ", ".join(branch.type.label for branch in branches)
        raise BadValue(f"is {value!r:.80}; write {{<branch>: value}} with one of {known}")

    return write


def by_kind(branches: list[Branch]) -> Write:
    null = [branch for branch in branches if branch.type.kind == "null"]
    others = [branch for branch in branches if branch not in null]
    # Numbers first: a decimal, which is text in JSON, takes an integer as well.
    others.sort(key=lambda branch: json_kind(branch.type) != "number")
    if not null or not others:
        return _by_trial(others or null)
    if len(others) == 1:
        ((_, prefix, write_other),) = others
    else:
        prefix, write_other = b"", _by_trial(others)
    null_prefix = null[0].prefix

    def write(value: Any, out: bytearray) -> Any:
        if value is None:
            out += null_prefix
            return None
        out += prefix
        return write_other(value, out)

    return write


def _by_trial(branches: list[Branch]) -> Write:
    """The first branch that takes the value; where none does, the fault furthest inside is told."""

    def write(value: Any, out: bytearray) -> Any:
        faults: list[BadValue] = []
        start = len(out)
        for _, prefix, write_branch in branches:
            try:
                out += prefix
                return write_branch(value, out)
            except (ValueError, OverflowError) as error:
                del out[start:]
                faults.append(BadValue.under("", error))
        deepest = max(fault.path.count(".") for fault in faults)
        said = [fault for fault in faults if fault.path.count(".") == deepest]
        raise BadValue("; or ".join(map(str, said)), said[0].path)

    return write


def write_record(fields: list[tuple[Field, Write]]) -> Write:
    names = {own.name for own, _ in fields}
    parts = [(own.name, write_part) for own, write_part in fields]

    def write(value: Any, out: bytearray) -> dict[str, Any]:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise wrong("an object", value)
        if value.keys() != names:
            value = _Filled(value, [own for own, _ in fields])
        form, name = {}, ""
        try:
            for name, write_part in parts:
                form[name] = write_part(value[name], out)
        except (ValueError, OverflowError) as error:
            raise BadValue.under(name, error) from None
        return form

    return write


class _Filled(dict[str, Any]):
    """A record that has its fields' defaults where it lacks them. Raises ValueError for what is unknown."""

    def __init__(self, value: Mapping[str, Any], fields: list[Field]) -> None:
        super().__init__(value)
        self._fields = {own.name: own for own in fields}
        if unknown := value.keys() - self._fields.keys():
            known = ", ".join(sorted(self._fields))
            raise BadValue(f"is unknown to the schema; it has {known}", str(min(unknown, key=str)))

    def __missing__(self, name: str) -> Any:
        return _default(self._fields[name])


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


def write_array(write_item: Write) -> Write:
    def write(value: Any, out: bytearray) -> list[Any]:
        if not isinstance(value, list | tuple | set | frozenset):
            raise wrong("an array", value)
        if value:
            out += avro.long(len(value))
        form: list[Any] = []
        try:
            for inner in value:
                form.append(write_item(inner, out))  # noqa: PERF401 - its length names the one at fault
        except (ValueError, OverflowError) as error:
            raise BadValue.under(f"[{len(form)}]", error) from None
        out.append(0)
        return form

    return write


def write_map(write_item: Write) -> Write:
    def write(value: Any, out: bytearray) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise wrong("an object", value)
        named = {text(key): inner for key, inner in value.items()}
        if named:
            out += avro.long(len(named))
        encoded = [avro.text(key) for key in named]  # a fault of a key is none of the value under it
        form, key = {}, ""
        try:
            for raw, (key, inner) in zip(encoded, named.items(), strict=True):
                out += raw
                form[key] = write_item(inner, out)
        except (ValueError, OverflowError) as error:
            raise BadValue.under(key, error) from None
        out.append(0)
        return form

    return write
