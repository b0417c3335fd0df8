"""What the registry takes for a schema, and which texts it takes for the same one."""

import json
import time
from typing import Any

import pytest

from penstock.registry.faults import RegistryFault
from penstock.registry.levels import problems
from penstock.registry.schema_text import MAX_PARTS, read_schema
from penstock_schemas.compatibility import Compatibility


def _record(*fields: dict[str, Any], name: str = "a.b.C", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def _print(schema: object) -> bytes:
    return read_schema(json.dumps(schema)).fingerprint


SAME = [
    ('"int"', '{"type": "int"}'),
    (
        '{"type":"record","name":"a.b.C","fields":[]}',
        '{"fields":[],"namespace":"a.b","name":"C","type":"record"}',
    ),
    (
        json.dumps(_record({"name": "x", "type": _record(name="D")}, {"name": "y", "type": "D"})),
        json.dumps(_record({"name": "x", "type": _record(name="a.b.D")}, {"name": "y", "type": "a.b.D"})),
    ),
    (
        json.dumps(_record({"name": "x", "type": "int"})),
        json.dumps(_record({"name": "x", "type": {"type": "int"}, "order": "ascending"})),
    ),
    (json.dumps(_record(aliases=["Old"])), json.dumps(_record(aliases=["a.b.Old"]))),
    (json.dumps(_record(name="C", namespace="")), json.dumps(_record(name="C"))),
    ('{"type":"array","items":{"type":"string"}}', ' {"items": "string", "type": "array"}\n'),
    ('["null", {"type": "long"}]', '["null","long"]'),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_texts_that_clients_print_differently_are_one_schema(one: str, other: str) -> None:
    assert read_schema(one).fingerprint == read_schema(other).fingerprint


FIELD = {"name": "x", "type": "int"}
BASE = _record(FIELD)
DIFFERENT = [
    _record(FIELD, doc="said"),
    _record({**FIELD, "doc": "said"}),
    _record({**FIELD, "default": 0}),
    _record({**FIELD, "order": "descending"}),
    _record({**FIELD, "aliases": ["y"]}),
    _record({**FIELD, "type": {"type": "int", "logicalType": "date"}}),
    _record({**FIELD, "type": "long"}),
    _record({**FIELD, "type": ["int"]}),
    _record(FIELD, name="C"),
    _record(FIELD, {"name": "y", "type": "int"}),
    _record(FIELD, owner="someone"),
]


def test_what_a_reader_could_notice_makes_another_schema() -> None:
    prints = [_print(schema) for schema in (BASE, *DIFFERENT)]
    assert len(set(prints)) == len(prints)


def test_the_text_is_kept_as_it_was_sent() -> None:
    text = ' {"type" : "string"}\n'
    assert read_schema(text).text == text


INVALID = {
    "empty": " ",
    "no JSON": "string",
    "NaN": '{"type":"record","name":"A","fields":[{"name":"x","type":"double","default":NaN}]}',
    "no type": "{}",
    "a number": "5",
    "null": "null",
    "unknown type": '"Foo"',
    "type is an object": '{"type": {}}',
    "type is a list": '{"type": ["null"]}',
    "record without fields": '{"type":"record","name":"A"}',
    "fields are no list": '{"type":"record","name":"A","fields":{}}',
    "field twice": json.dumps(_record(FIELD, FIELD)),
    "field name": json.dumps(_record({"name": "a-b", "type": "int"})),
    "field without type": json.dumps(_record({"name": "a"})),
    "record twice": json.dumps(
        _record({"name": "x", "type": _record(name="D")}, {"name": "y", "type": _record(name="D")})
    ),
    "union in union": '[["null"]]',
    "type twice in a union": '["null","null"]',
    "negative size": '{"type":"fixed","name":"F","size":-1}',
    "symbol twice": '{"type":"enum","name":"E","symbols":["a","a"]}',
    "array without items": '{"type":"array"}',
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_what_is_no_schema_is_refused_as_invalid(text: str) -> None:
    with pytest.raises(RegistryFault) as refused:
        read_schema(text)
    assert (refused.value.status, refused.value.code) == (422, 42201)


ENUM = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
NESTED = _record({"name": "i", "type": "int"}, {"name": "j", "type": "int", "default": 1}, name="N")
DEFAULTS: list[tuple[Any, Any, bool]] = [
    ("null", None, True),
    ("null", 0, False),
    ("boolean", True, True),
    ("boolean", 1, False),
    ("int", 2**31 - 1, True),
    ("int", 2**31, False),
    ("int", True, False),
    ("int", 1.5, False),
    ("long", -(2**63), True),
    ("long", 2**63, False),
    ("double", 1, True),
    ("double", "1", False),
    ("string", "", True),
    ("bytes", "\u00ff", True),
    ("bytes", [1], False),
    (["null", "string"], None, True),
    (["null", "string"], "x", True),  # Avro 1.12 allows the default of any branch
    (["null", "string"], 1, False),
    (ENUM, "b", True),
    (ENUM, "c", False),
    ({"type": "fixed", "name": "F", "size": 2}, "ab", True),
    ({"type": "fixed", "name": "F", "size": 2}, "abc", False),
    ({"type": "array", "items": "int"}, [1, 2], True),
    ({"type": "array", "items": "int"}, ["x"], False),
    ({"type": "map", "values": "int"}, {"k": 1}, True),
    ({"type": "map", "values": "int"}, {"k": None}, False),
    (NESTED, {"i": 1}, True),
    (NESTED, {"j": 1}, False),
    (NESTED, {"i": "x"}, False),
]


@pytest.mark.parametrize(("kind", "default", "fits"), DEFAULTS)
def test_a_default_has_to_fit_since_java_refuses_one_that_does_not(
    kind: Any, default: Any, fits: bool
) -> None:
    text = json.dumps(_record({"name": "x", "type": kind, "default": default}))
    if fits:
        read_schema(text)
        return
    with pytest.raises(RegistryFault, match=r"a\.b\.C\.x: the default does not fit"):
        read_schema(text)


def test_a_default_of_a_type_that_was_defined_before_is_checked_too() -> None:
    text = json.dumps(_record({"name": "x", "type": ENUM}, {"name": "y", "type": "E", "default": "nope"}))
    with pytest.raises(RegistryFault, match="does not fit"):
        read_schema(text)


def test_recursion_is_a_schema() -> None:
    read_schema(json.dumps(_record({"name": "next", "type": ["null", "a.b.C"], "default": None})))


def test_logical_types_are_not_the_registrys_business() -> None:
    for logical in ("uuid", "made-up", "decimal"):
        read_schema(json.dumps(_record({"name": "x", "type": {"type": "string", "logicalType": logical}})))


def test_a_schema_nested_50_000_deep_is_refused_without_recursion() -> None:
    text = '{"type":"array","items":' * 50_000 + '"int"' + "}" * 50_000
    with pytest.raises(RegistryFault, match="Invalid schema"):
        read_schema(text)


def test_size_is_bounded() -> None:
    with pytest.raises(RegistryFault, match="parts"):
        read_schema(json.dumps({"type": "enum", "name": "E", "symbols": [f"s{n}" for n in range(MAX_PARTS)]}))
    with pytest.raises(RegistryFault, match="101 branches"):
        read_schema(json.dumps([_record(name=f"R{n}") for n in range(101)]))


@pytest.mark.parametrize(
    "schema",
    [
        [_record({"name": "x", "type": "int"}, name=f"R{n}") for n in range(100)],
        _record(*({"name": f"f{n}", "type": "int"} for n in range(3_000))),
    ],
    ids=["wide union", "wide record"],
)
def test_the_costliest_schemas_within_the_limits_are_judged_in_seconds(schema: Any) -> None:
    text = json.dumps(schema)
    read_schema(text)
    started = time.process_time()
    assert problems(text, [text], Compatibility.FULL) == []
    assert time.process_time() - started < 10  # 0.1 to 1 s; without the limits, a minute
