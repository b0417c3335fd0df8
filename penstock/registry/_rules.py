"""What Apache's Python parser lets pass and Java's refuses: names of fields, defaults that do not fit. Pure.

Nobody who writes Java could read the records of such a schema. Works on the canonical form, where every name
is a full one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["MAX_BRANCHES", "find_fault"]

MAX_BRANCHES = 100  # of one union; two unions are compared branch by branch, which took 53 s for 1,000
_NAMED = frozenset({"record", "error", "enum", "fixed"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Node = Mapping[str, Any]


def find_fault(schema: Any) -> str | None:
    """What is wrong, or None. `schema` is canonical, and Apache's parser has accepted it."""
    types = list(_types(schema))
    widest = max((len(node) for node in types if isinstance(node, list)), default=0)
    if widest > MAX_BRANCHES:
        return f"a union has {widest} branches; {MAX_BRANCHES} are allowed"
    named = {node["name"]: node for node in types if isinstance(node, dict) and node["type"] in _NAMED}
    for record in named.values():
        for field in record.get("fields", ()):
            if not _NAME.fullmatch(field["name"]):
                return f"{record['name']}: {field['name']!r} is no name; use letters, digits and underscores"
            if "default" in field and not _fits(field["type"], field["default"], named):
                return f"{record['name']}.{field['name']}: the default does not fit the field's type"
    return None


def _types(schema: Any) -> Iterator[Any]:
    """Every place of `schema` that holds a type."""
    pending = [schema]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict) and node["type"] in ("array", "map"):
            pending.append(node["items" if node["type"] == "array" else "values"])
        elif isinstance(node, dict) and node["type"] in ("record", "error"):
            pending += [field["type"] for field in node["fields"]]


def _is_int(bits: int) -> Callable[[Any], bool]:
    limit = 2 ** (bits - 1)
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PRIMITIVES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "int": _is_int(32),
    "long": _is_int(64),
    "float": _is_number,
    "double": _is_number,
    "bytes": lambda value: isinstance(value, str),
    "string": lambda value: isinstance(value, str),
}


def _fits(schema: Any, value: Any, named: Mapping[str, Mapping[str, Any]]) -> bool:
    """Avro 1.12, "Complex Types": the default of a union may belong to any branch."""
    if isinstance(schema, list):
        return any(_fits(branch, value, named) for branch in schema)
    if isinstance(schema, str):
        check = _PRIMITIVES.get(schema)
        return check(value) if check else _fits(named[schema], value, named)
    match schema["type"]:
        case "array":
            return isinstance(value, list) and all(_fits(schema["items"], item, named) for item in value)
        case "map":
            return isinstance(value, dict) and all(
                _fits(schema["values"], item, named) for item in value.values()
            )
        case "enum":
            return value in schema["symbols"]
        case "fixed":
            return isinstance(value, str) and len(value) == schema["size"]
        case "record" | "error":
            return isinstance(value, dict) and all(
                _fits(field["type"], value[field["name"]], named)
                if field["name"] in value
                else "default" in field
                for field in schema["fields"]
            )
        case primitive:
            return _PRIMITIVES[primitive](value)
