"""Laws of the JSON form, with fastavro as the oracle of the binary encoding."""

import io
import json
import math
from base64 import b64decode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_schemas import DecodeError, InvalidEvent
from penstock_schemas.errors import DecodeReason, UnsupportedSchema
from penstock_schemas.json_form import JsonForm

# What one type's values look like on the wire: (schema, strategy of what fastavro writes and reads with
# logical types left out).
Typed = tuple[Any, st.SearchStrategy[Any]]

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
PRIMITIVES: list[Typed] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("float", st.floats(allow_nan=False, allow_infinity=False, width=32)),
    ("double", st.floats(allow_nan=False, allow_infinity=False)),
    ("bytes", st.binary(max_size=40)),
    ("string", TEXT),
]
MICROS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
LOGICAL: list[Typed] = [
    ({"type": "int", "logicalType": "date"}, st.integers(-719_162, 2_932_896)),
    ({"type": "int", "logicalType": "time-millis"}, st.integers(0, 86_399_999)),
    ({"type": "long", "logicalType": "time-micros"}, st.integers(0, 86_399_999_999)),
    ({"type": "long", "logicalType": "timestamp-millis"}, st.integers(MICROS[0] // 1000, MICROS[1] // 1000)),
    ({"type": "long", "logicalType": "timestamp-micros"}, st.integers(*MICROS)),
    ({"type": "long", "logicalType": "timestamp-nanos"}, st.integers(-(2**63), 2**63 - 1)),
    ({"type": "long", "logicalType": "local-timestamp-millis"}, st.integers(-(2**40), 2**40)),
    ({"type": "long", "logicalType": "local-timestamp-micros"}, st.integers(*MICROS)),
    ({"type": "long", "logicalType": "local-timestamp-nanos"}, st.integers(-(2**63), 2**63 - 1)),
    ({"type": "string", "logicalType": "uuid"}, st.uuids().map(str)),
    (
        {"type": "fixed", "name": "Uuid", "size": 16, "logicalType": "uuid"},
        st.binary(min_size=16, max_size=16),
    ),
    (
        {"type": "fixed", "name": "Dur", "size": 12, "logicalType": "duration"},
        st.binary(min_size=12, max_size=12),
    ),
    ({"type": "string", "logicalType": "of-somebody-else"}, TEXT),
    ({"type": "int", "logicalType": "timestamp-micros"}, st.integers(-(2**31), 2**31 - 1)),
]


def decimals(precision: int, scale: int) -> Typed:
    schema = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    limit = 10**precision - 1
    shortest = st.integers(-limit, limit).map(
        lambda n: n.to_bytes((n if n >= 0 else ~n).bit_length() // 8 + 1, "big", signed=True)
    )
    return schema, shortest


@st.composite
def named(draw: st.DrawFn, kind: str) -> str:
    """A name that no other type of the schema has: most of the time, and the schema is drawn again
    otherwise.
    """
    return f"{kind}{draw(st.integers(0, 10**9))}"


@st.composite
def enums(draw: st.DrawFn) -> Typed:
    symbols = draw(
        st.lists(
            st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True), min_size=1, max_size=5, unique=True
        )
    )
    return {"type": "enum", "name": draw(named("E")), "symbols": symbols}, st.sampled_from(symbols)


@st.composite
def fixed(draw: st.DrawFn) -> Typed:
    size = draw(st.integers(1, 20))
    return {"type": "fixed", "name": draw(named("F")), "size": size}, st.binary(min_size=size, max_size=size)


def leaves() -> st.SearchStrategy[Typed]:
    precise = st.tuples(st.integers(1, 40), st.integers(0, 40)).filter(lambda p: p[1] <= p[0])
    return st.one_of(
        st.sampled_from(PRIMITIVES),
        st.sampled_from([one for one in LOGICAL if one[0]["type"] != "fixed"]),
        precise.map(lambda p: decimals(*p)),
        enums(),
        fixed(),
    )


@st.composite
def containers(draw: st.DrawFn, children: st.SearchStrategy[Typed]) -> Typed:
    kind = draw(st.sampled_from(["array", "map", "record", "optional"]))
    if kind == "record":
        parts = draw(st.lists(children, max_size=4))
        schema = {
            "type": "record",
            "name": draw(named("R")),
            "fields": [{"name": f"f{i}", "type": part[0]} for i, part in enumerate(parts)],
        }
        return schema, st.fixed_dictionaries({f"f{i}": part[1] for i, part in enumerate(parts)})
    schema, values = draw(children)
    if kind == "array":
        return {"type": "array", "items": schema}, st.lists(values, max_size=3)
    if kind == "map":
        return {"type": "map", "values": schema}, st.dictionaries(TEXT, values, max_size=3)
    if schema == "null" or isinstance(schema, list):
        return schema, values
    return draw(st.permutations(["null", schema])), st.none() | values


def plain(schema: Any) -> Any:
    """The schema without logical types: what fastavro then writes and reads is the wire's own value."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def encode(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), value)
    return out.getvalue()


def form_of(schema: Any) -> JsonForm | None:
    """None where the schema is refused for good reason (an array of nulls, two types of one name)."""
    try:
        return JsonForm(json.dumps(schema))
    except UnsupportedSchema as error:
        if "values_per_byte" not in str(error) and "defined twice" not in str(error):
            raise
        return None


@given(st.recursive(leaves(), containers, max_leaves=8), st.data())
def test_json_goes_back_to_the_same_bytes(typed: Typed, data: st.DataObject) -> None:
    """write(to_json(bytes)) gives the bytes again, which fastavro wrote, and the form that is read from them;
    and the JSON survives being text.
    """
    schema, values = typed
    form = form_of(schema)
    if form is None:
        return
    encoded = encode(schema, data.draw(values))
    value = form.to_json(encoded)
    text = json.dumps(value, allow_nan=False)
    written, made = form.write(json.loads(text))
    assert written == encoded
    assert repr(made) == repr(value)  # minus zero, and 1 beside 1.0 and True


@given(st.recursive(leaves(), containers, max_leaves=6), st.data())
def test_any_bytes_are_a_value_or_a_decode_error(typed: Typed, data: st.DataObject) -> None:
    """Cut, changed or made up: nothing but a `DecodeError` comes out, and what is read is written to an equal
    value.
    """
    form = form_of(typed[0])
    if form is None:
        return
    encoded = encode(typed[0], data.draw(typed[1]))
    mutated = data.draw(
        st.binary(max_size=40)
        | st.integers(0, len(encoded)).map(lambda end: encoded[:end])
        | st.tuples(st.integers(0, max(len(encoded) - 1, 0)), st.integers(0, 255)).map(
            lambda change: encoded[: change[0]] + bytes([change[1]]) + encoded[change[0] + 1 :]
        )
    )
    try:
        value = form.to_json(mutated)
    except DecodeError:
        return
    assert form.to_json(form.to_avro(value)) == value


@pytest.mark.parametrize("schema", [schema for schema, _ in LOGICAL if isinstance(schema, dict)], ids=str)
@given(st.data())
def test_each_logical_type_round_trips(schema: Any, data: st.DataObject) -> None:
    values = next(strategy for known, strategy in LOGICAL if known is schema)
    form = JsonForm(json.dumps(schema))
    encoded = encode(schema, data.draw(values))
    assert form.to_avro(json.loads(json.dumps(form.to_json(encoded)))) == encoded


MEANINGS: list[tuple[Any, Any, Any, Callable[[Any], Any]]] = [
    # schema, wire value, JSON form, what Python's own parser makes of the form
    ({"type": "int", "logicalType": "date"}, -1, "1969-12-31", date.fromisoformat),
    ({"type": "int", "logicalType": "time-millis"}, 86_399_999, "23:59:59.999", time.fromisoformat),
    ({"type": "long", "logicalType": "time-micros"}, 1, "00:00:00.000001", time.fromisoformat),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        -1,
        "1969-12-31T23:59:59.999Z",
        datetime.fromisoformat,
    ),
    (
        {"type": "long", "logicalType": "timestamp-micros"},
        0,
        "1970-01-01T00:00:00.000000Z",
        datetime.fromisoformat,
    ),
    ({"type": "long", "logicalType": "timestamp-nanos"}, 1, "1970-01-01T00:00:00.000000001Z", str),
    (
        {"type": "long", "logicalType": "local-timestamp-millis"},
        0,
        "1970-01-01T00:00:00.000",
        datetime.fromisoformat,
    ),
    ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, b"\xff", "-0.01", Decimal),
    ({"type": "bytes", "logicalType": "decimal", "precision": 4}, b"\x00\x80", "128", Decimal),
    ({"type": "bytes", "logicalType": "decimal", "precision": 1, "scale": 2}, b"\x01", "AQ==", b64decode),
    ("bytes", b"\x00\xfe\xff", "AP7/", b64decode),
    ("long", 2**63 - 1, 9_223_372_036_854_775_807, int),
    ("float", 0.1, 0.10000000149011612, float),
    (["null", "string"], None, None, bool),
    (["int", "string"], 5, 5, int),
    (["int", "long"], 5, {"int": 5}, str),
    (
        {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"},
        b"\1\0\0\0\2\0\0\0\xbc\x0b\0\0",
        "P1M2DT3.004S",
        str,
    ),
]


def _named(value: Any) -> str:
    """The same text in every test process: a function's repr holds its address."""
    return getattr(value, "__name__", None) or repr(value)[:60]


@pytest.mark.parametrize(("schema", "wire", "form", "parse"), MEANINGS, ids=_named)
def test_the_documented_forms(schema: Any, wire: Any, form: Any, parse: Callable[[Any], Any]) -> None:
    codec = JsonForm(json.dumps(schema))
    assert codec.to_json(encode(schema, wire)) == form
    assert codec.to_avro(form) == encode(schema, wire)
    parse(form)


def test_unions_of_records_are_told_apart_or_tagged() -> None:
    def record(name: str, symbol: str) -> dict[str, Any]:
        kind = {"type": "enum", "name": f"{name}Kind", "symbols": [symbol]}
        return {"type": "record", "name": name, "fields": [{"name": "kind", "type": kind}]}

    told_apart = JsonForm(json.dumps(["null", record("A", "a"), record("B", "b")]))
    assert told_apart.to_avro({"kind": "b"}) == b"\4\0"
    assert told_apart.to_json(b"\4\0") == {"kind": "b"}
    with pytest.raises(InvalidEvent, match="kind: is 'c', not one of a; or is 'c', not one of b"):
        told_apart.to_avro({"kind": "c"})
    tagged = JsonForm(json.dumps(["null", record("A", "x"), record("B", "x")]))
    assert tagged.to_json(b"\4\0") == {"B": {"kind": "x"}}
    assert tagged.to_avro({"B": {"kind": "x"}}) == b"\4\0"
    assert tagged.to_avro(None) == b"\0"
    with pytest.raises(InvalidEvent, match=r"write {<branch>: value} with one of null, A, B"):
        tagged.to_avro({"kind": "x"})


LIKE_PAIRS: list[Any] = [
    ["int", "null", "long"],
    ["string", "bytes"],
    [{"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "timestamp-micros"}, "null"],
    [{"type": "bytes", "logicalType": "decimal", "precision": 20}, "long"],
    ["boolean", "double", {"type": "array", "items": ["null", "int", "string"]}],
    [{"type": "enum", "name": "E", "symbols": ["A"]}, {"type": "fixed", "name": "F", "size": 2}],
]


@pytest.mark.parametrize("schema", LIKE_PAIRS, ids=json.dumps)
@given(st.binary(max_size=12))
def test_every_branch_of_a_union_is_told_apart(schema: Any, data: bytes) -> None:
    """Whatever branch the wire names, the JSON form goes back to it: int 5 is not long 5."""
    form = JsonForm(json.dumps(schema))
    try:
        value = form.to_json(data)
    except DecodeError:
        return
    again = form.to_avro(json.loads(json.dumps(value)))
    assert form.to_json(again) == value
    if data[:1] < b"\x80" and data[0] % 2 == 0:  # fastavro counts a negative branch from the last
        assert again[:1] == data[:1]


@pytest.mark.parametrize("schema", ["float", "double"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused_both_ways(schema: str, value: float) -> None:
    form = JsonForm(f'"{schema}"')
    with pytest.raises(DecodeError) as caught:
        form.to_json(encode(schema, value))
    assert caught.value.reason is DecodeReason.NOT_FINITE
    with pytest.raises(InvalidEvent, match="is not JSON"):
        form.to_avro(value)


@given(st.integers())
def test_integers_beyond_64_bits_are_refused_or_decimals(value: int) -> None:
    form = JsonForm('"long"')
    if -(2**63) <= value < 2**63:
        assert form.to_json(form.to_avro(value)) == value
    else:
        with pytest.raises(InvalidEvent, match="does not fit into 64 bits; declare it as a decimal"):
            form.to_avro(value)
    whole = JsonForm('{"type":"bytes","logicalType":"decimal","precision":100}')
    assert whole.to_json(whole.to_avro(value)) == str(value)


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=3) | st.integers(-(10**30), 10**30).map(Decimal)
)
def test_decimals_are_exact(value: Decimal) -> None:
    form = JsonForm('{"type":"bytes","logicalType":"decimal","precision":60,"scale":3}')
    if abs(value) < Decimal(10) ** 57:
        assert Decimal(str(form.to_json(form.to_avro(value)))) == value


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"type": "int", "logicalType": "date"}, 2**31 - 1, "years 1 to 9999"),
        ({"type": "long", "logicalType": "timestamp-micros"}, 2**63 - 1, "years 1 to 9999"),
        ({"type": "int", "logicalType": "time-millis"}, 86_400_000, "one day"),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 2},
            b"\x7f",
            "3 digits; its schema allows 2",
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 9**9},
            b"\x7f" * 2_000,
            "bytes of a decimal",
        ),
    ],
)
def test_values_outside_their_form_are_refused(schema: Any, value: Any, said: str) -> None:
    with pytest.raises(DecodeError, match=said) as caught:
        JsonForm(json.dumps(schema)).to_json(encode(schema, value))
    assert caught.value.reason is DecodeReason.INVALID_FIELD


def test_a_missing_value_takes_its_default() -> None:
    fields = [
        {"name": "a", "type": "int", "default": 7},
        {"name": "b", "type": ["null", "string"], "default": None},
        {"name": "c", "type": ["int", "long"], "default": 1},
        {"name": "d", "type": "bytes", "default": "\u00ff"},
    ]
    form = JsonForm(json.dumps({"type": "record", "name": "R", "fields": fields}))
    assert form.to_json(form.to_avro({"d": "AA=="})) == {"a": 7, "b": None, "c": {"int": 1}, "d": "AA=="}
    with pytest.raises(
        InvalidEvent, match="d: is missing, and its default is written in Avro's own notation"
    ):
        form.to_avro({})


def test_the_epoch_is_what_python_says() -> None:
    form = JsonForm('{"type":"long","logicalType":"timestamp-micros"}')
    for days in (-700_000, -1, 0, 1, 20_000, 2_900_000):
        moment = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(days=days, microseconds=1)
        assert form.to_json(form.to_avro(moment)) == moment.replace(tzinfo=None).isoformat() + "Z"
