"""Writing values with parts: unions, arrays, maps; `_records` does records, `_scalars` says what writing is.

One walk makes both a value's bytes and its JSON form: fastavro's writer would need another one before it, and
to know the JSON form its reader a third.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock_schemas import _avro_bytes as avro
from penstock_schemas._avro_schema import Type
from penstock_schemas._json_kinds import is_tagged, json_kind
from penstock_schemas._records import write_record
from penstock_schemas._scalars import BadValue, Write, scalar, text, wrong


class Writers:
    """The writers of one schema's types."""

    def __init__(self) -> None:
        self._named: dict[str, Write] = {}

    def of(self, kind: Type) -> Write:
        known = self._named.get(kind.name) if kind.name else None
        if known is None:
            known = self._make(kind)
            if kind.name:
                self._named[kind.name] = known
        return known

    def _make(self, kind: Type) -> Write:
        match kind.kind:
            case "record":
                return write_record([(own, self.of(own.type)) for own in kind.fields])
            case "union":
                branches = [
                    _Branch(branch, avro.long(index), self.of(branch))
                    for index, branch in enumerate(kind.branches)
                ]
                return _by_tag(branches) if is_tagged(kind) else _by_kind(branches)
            case "array" | "map":
                assert kind.items is not None  # noqa: S101 - the parser sets it for both
                return (_write_array if kind.kind == "array" else _write_map)(self.of(kind.items))
        return scalar(kind)[1]


class _Branch(NamedTuple):
    type: Type
    prefix: bytes
    write: Write


def _by_tag(branches: list[_Branch]) -> Write:
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


def _by_kind(branches: list[_Branch]) -> Write:
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


def _by_trial(branches: list[_Branch]) -> Write:
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


def _write_array(write_item: Write) -> Write:
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


def _write_map(write_item: Write) -> Write:
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
