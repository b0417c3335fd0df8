"""Is it Avro, is it within limits, and is it the same schema as another one? Pure.

Two texts are one schema when they differ only in white space, the order of attributes, `namespace` against
full names, or the long form of a primitive: Java's `Schema.toString()` and its source have one id.
Documentation, defaults, aliases, custom properties are part of a schema, as in Confluent's registry; Avro's
"parsing canonical form" drops them and is not what is meant here.
"""

import hashlib
import threading
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import avro.schema
import orjson

from penstock.registry._rules import find_fault
from penstock.registry.faults import invalid_schema
from penstock_schemas.errors import UnsupportedSchema
from penstock_schemas.limits import check_schema_text

__all__ = ["MAX_PARTS", "SchemaText", "read_schema"]

MAX_PARTS = 10_000  # JSON values; at so many fields Apache's checker takes a second
_MAX_REASON = 500  # characters; the parser quotes what it could not read
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAMED = frozenset({"record", "error", "enum", "fixed"})
_quiet = threading.Lock()  # `warnings.catch_warnings` is the process's, not the thread's


class SchemaText(NamedTuple):
    """A valid schema: the text as it was sent, and 32 bytes that equal schemas share."""

    text: str
    fingerprint: bytes


def read_schema(text: str) -> SchemaText:
    """Validate `text`. Raises `RegistryFault` 42201 with what is wrong."""
    if not text.strip():
        raise invalid_schema("it is empty")
    try:
        check_schema_text(text)
        tree = orjson.loads(text)
    except UnsupportedSchema as error:
        raise invalid_schema(str(error)) from None
    except orjson.JSONDecodeError as error:
        raise invalid_schema(f"it is not JSON: {error}") from None
    _limit(tree)
    _accept(text)
    canonical = _canonical(tree, "")
    if wrong := find_fault(canonical):
        raise invalid_schema(wrong)
    return SchemaText(text, hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).digest())


def _limit(tree: object) -> None:
    pending, parts = [tree], 0
    while pending:
        node = pending.pop()
        parts += 1
        if isinstance(node, dict | list):
            pending += node.values() if isinstance(node, dict) else node
    if parts > MAX_PARTS:
        raise invalid_schema(f"it has more than {MAX_PARTS} parts (values of its JSON)")


def _accept(text: str) -> None:
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown logical types are legal
            avro.schema.parse(text)
    except Exception as error:  # it raises whatever the wrong type in the wrong place leads to
        raise invalid_schema(f"{error or type(error).__name__}"[:_MAX_REASON]) from None


def _canonical(node: Any, namespace: str) -> Any:
    if isinstance(node, str):
        return node if node in _PRIMITIVES else _full_name(node, namespace)
    if isinstance(node, list):
        return [_canonical(branch, namespace) for branch in node]
    kind = node["type"]
    if kind in _NAMED:
        return _canonical_named(node, namespace)
    if node.keys() == {"type"}:
        return kind
    parts = {
        name: _canonical(node[name], namespace)
        for name in ("items", "values")
        if name in node and kind not in _PRIMITIVES
    }
    return {**node, **parts}


def _canonical_named(node: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    name = _full_name(node["name"], node.get("namespace", namespace))
    inner = name.rpartition(".")[0]
    canonical = {key: value for key, value in node.items() if key != "namespace"} | {"name": name}
    if isinstance(node.get("aliases"), list):
        canonical["aliases"] = [
            _full_name(alias, inner) if isinstance(alias, str) else alias for alias in node["aliases"]
        ]
    if "fields" in node:
        canonical["fields"] = [_canonical_field(field, inner) for field in node["fields"]]
    return canonical


def _canonical_field(field: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    canonical = {**field, "type": _canonical(field["type"], namespace)}
    if canonical.get("order") == "ascending":  # the default
        del canonical["order"]
    return canonical


def _full_name(name: str, namespace: str | None) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
