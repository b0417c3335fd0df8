"""Writing records, by a function made for each of their types.

Its source spells out what a loop over the fields would do: at half the price, as the commonest values need no
call. Of the schema there are only names in it, as literals.
"""

from collections.abc import Mapping
from textwrap import indent
from typing import Any

from penstock_schemas._avro_bytes import LAST_SMALL, SMALL, long
from penstock_schemas._avro_schema import MISSING, Field
from penstock_schemas._json_kinds import is_tagged
from penstock_schemas._scalars import BadValue, Write, wrong

__all__ = ["write_record"]

_FUNCTION = """\
def write(record, out):
    if type(record) is not dict or len(record) != {count}:
        record = complete(record)
    name = ""
    try:
{steps}
    except (ValueError, OverflowError) as error:
        raise BadValue.under(name, error) from None
    except KeyError:  # as many fields as there should be, but others
        complete(record)
        raise
    return {{{form}}}
"""
_CALL = "{value} = {write}({value}, out)"
_USUAL = {
    "string": f"""\
if type({{value}}) is str:
    raw = {{value}}.encode()
    size = len(raw)
    out += {{prefix}}SMALL[size] if size < {LAST_SMALL} else {{prefix}}long(size)
    out += raw""",
    "long": f"""\
if type({{value}}) is int and 0 <= {{value}} < {LAST_SMALL}:
    out += {{prefix}}SMALL[{{value}}]""",
}
"""What `_scalars` does with a usual value of the type."""
_NULL = """
elif {value} is None:
    out += {null!r}"""


def write_record(fields: list[tuple[Field, Write]]) -> Write:
    """The writer of records that have these fields."""

    def complete(record: Any) -> Mapping[str, Any]:
        if not isinstance(record, Mapping):
            raise wrong("an object", record)
        return _Filled(record, [own for own, _ in fields])

    steps = "\n".join(_step(index, own) for index, (own, _) in enumerate(fields))
    source = _FUNCTION.format(
        count=len(fields),
        steps=indent(steps or "pass", " " * 8),
        form=", ".join(f"{own.name!r}: value_{index}" for index, (own, _) in enumerate(fields)),
    )
    known: dict[str, Any] = {"SMALL": SMALL, "long": long, "BadValue": BadValue, "complete": complete}
    known |= {f"write_{index}": write for index, (_, write) in enumerate(fields)}
    exec(source, known)  # noqa: S102 - the text above; of the schema only names, quoted
    return known["write"]  # type: ignore[no-any-return]


def _step(index: int, own: Field) -> str:
    """What writes one field: its usual values in place, the others by a call."""
    value = f"value_{index}"
    kind, prefix, null = own.type, "", ""
    if [branch.kind for branch in kind.branches].count("null") == 1 == len(kind.branches) - 1:
        at = kind.branches[0].kind == "null"
        prefix, null = f"{long(at)!r} + ", _NULL.format(value=value, null=long(not at))
        kind = kind.branches[at]
    step = _CALL.format(value=value, write=f"write_{index}")
    if kind.kind in _USUAL and not kind.logical:
        step = f"{_USUAL[kind.kind].format(value=value, prefix=prefix)}{null}\nelse:\n    {step}"
    return f"name = {own.name!r}\n{value} = record[name]\n{step}"


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
