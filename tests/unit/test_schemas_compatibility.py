"""Compatibility between versions: levels, directions, places."""

import json
from typing import Any

import pytest

from penstock_schemas.compatibility import Compatibility, check_compatibility
from penstock_schemas.errors import UnsupportedSchema


def record(*fields: Any, name: str = "Parcel") -> str:
    made = [{"name": one[0], "type": one[1]} | (one[2] if len(one) > 2 else {}) for one in fields]
    return json.dumps({"type": "record", "name": name, "fields": made})


A = record(("id", "string"))
A_B = record(("id", "string"), ("b", "int"))
A_B_DEFAULT = record(("id", "string"), ("b", "int", {"default": 0}))
A_B_LONG = record(("id", "string"), ("b", "long", {"default": 0}))


@pytest.mark.parametrize(
    ("new", "old", "level", "fits"),
    [
        (A_B_DEFAULT, [A], "BACKWARD", True),
        (A_B, [A], "BACKWARD", False),
        (A_B, [A], "FORWARD", True),
        (A_B, [A], "FULL", False),
        (A_B_DEFAULT, [A], "FULL", True),
        (A, [A_B], "BACKWARD", True),
        (A, [A_B], "FORWARD", False),
        (A_B_LONG, [A_B], "BACKWARD", True),
        (A_B_LONG, [A_B], "FORWARD", False),
        (A_B, [A, A_B_DEFAULT], "BACKWARD", True),
        (A_B, [A, A_B_DEFAULT], "BACKWARD_TRANSITIVE", False),
        (A, [A_B, A_B_DEFAULT], "FORWARD", True),
        (A, [A_B, A_B_DEFAULT], "FORWARD_TRANSITIVE", False),
        (A_B, [A, A_B_DEFAULT], "FULL", True),
        (A_B, [A, A_B_DEFAULT], "FULL_TRANSITIVE", False),
        (record(("id", "int")), [A], "NONE", True),
        (record(("id", "int")), [], "FULL_TRANSITIVE", True),
        (record(("id", "string"), name="Other"), [A], "BACKWARD", False),
    ],
)
def test_levels(new: str, old: list[str], level: str, fits: bool) -> None:
    assert (check_compatibility(new, old, level) == []) is fits


def test_places() -> None:
    inner_old = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}
    inner_new = {
        "type": "record",
        "name": "Address",
        "fields": [{"name": "city", "type": "int"}, {"name": "zip", "type": "string"}],
    }
    old = record(
        ("to", inner_old),
        ("way", {"type": "array", "items": "string"}),
        ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}),
        ("hash", {"type": "fixed", "name": "Hash", "size": 8}),
    )
    new = record(
        ("to", ["null", inner_new]),
        ("way", {"type": "array", "items": "long"}),
        ("kind", {"type": "enum", "name": "Kind", "symbols": ["A"]}),
        ("hash", {"type": "fixed", "name": "Hash", "size": 16}),
        ("more", "string"),
    )
    assert check_compatibility(new, [old], Compatibility.BACKWARD) == [
        "new reads version 1: /hash: fixed size mismatch: expected: 8, found: 16",
        "new reads version 1: /kind: missing enum symbols: {'B'}",
        "new reads version 1: /more: reader field missing default value: more",
        "new reads version 1: /to: missing union branch: reader union lacking writer type record",
        "new reads version 1: /way/items: type mismatch: reader type: long not compatible with writer"
        " type: string",
    ]
    nested = check_compatibility(record(("to", inner_new)), [record(("to", inner_old))], "BACKWARD")
    assert nested == [
        "new reads version 1: /to/city: type mismatch: reader type: int not compatible with writer type:"
        " string",
        "new reads version 1: /to/zip: reader field missing default value: zip",
    ]


def test_places_inside_unions() -> None:
    inner = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}
    changed = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "int"}]}
    problems = check_compatibility(record(("to", changed)), [record(("to", ["null", inner]))], "BACKWARD")
    assert problems == [
        "new reads version 1: /to/city: type mismatch: reader type: int not compatible with writer type:"
        " string",
        "new reads version 1: /to: type mismatch: reader type: record not compatible with writer type: null",
    ]


def test_the_direction_is_said() -> None:
    problems = check_compatibility(A_B, [A_B_LONG, A], "FORWARD_TRANSITIVE")
    assert problems == []
    problems = check_compatibility(A_B_LONG, [A, A_B], "FULL_TRANSITIVE")
    assert problems == [
        "version 2 reads new: /b: type mismatch: reader type: int not compatible with writer type: long"
    ]


def test_logical_types_that_apache_does_not_know_are_no_warning() -> None:
    nanos = record(("at", {"type": "long", "logicalType": "timestamp-nanos"}))
    assert check_compatibility(nanos, [record(("at", "long"))], "FULL") == []


def test_recursive_schemas_can_be_compared() -> None:
    tree = record(("next", ["null", "Parcel"]))
    assert check_compatibility(tree, [tree], "FULL") == []


@pytest.mark.parametrize("text", ["{", '{"type":"record"}', '"nonsense"', "[" * 50_000, "7", '{"type":{}}'])
def test_what_is_no_schema(text: str) -> None:
    with pytest.raises(UnsupportedSchema):
        check_compatibility(text, [], "BACKWARD")
    with pytest.raises(UnsupportedSchema):
        check_compatibility(A, [text], "BACKWARD")


def test_unknown_level() -> None:
    with pytest.raises(ValueError, match="SIDEWAYS"):
        check_compatibility(A, [], "SIDEWAYS")
