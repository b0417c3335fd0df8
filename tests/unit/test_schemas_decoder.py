"""The decoder: whose records it reads, and why it refuses the others. fastavro is the foreign writer."""

import io
import json
import re
import tracemalloc
import uuid
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest

from penstock_schemas import DecodeError, DecodeReason, Event, EventFields
from penstock_schemas._row_reader import _long_size
from penstock_schemas.decoder import Decoder
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.errors import SchemaNotLoaded, UnsupportedSchema
from penstock_schemas.event import content_hash
from penstock_schemas.limits import DecodeLimits
from penstock_schemas.registry import InMemoryRegistry

ID = uuid.UUID("01932f6e-7b00-7000-8000-000000000001")
AT = datetime(2026, 3, 2, 8, 15, 0, 250_000, tzinfo=UTC)
AT_MICROS = 1_772_439_300_250_000
RECORD: dict[str, Any] = {
    "event_id": str(ID),
    "event_type": "parcel.collected",
    "occurred_at": AT,
    "entity_id": "PX-1",
    "payload": '{"depot":"KI-2"}',
    "metadata": "{}",
}
MINIMAL: list[Any] = [
    {"name": "event_id", "type": "string"},
    {"name": "event_type", "type": "string"},
    {"name": "occurred_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "entity_id", "type": "string"},
    {"name": "payload", "type": "string"},
]


def record_schema(*changes: dict[str, Any], without: str = "", name: str = "com.example.Fact") -> str:
    """The minimal envelope in a foreign namespace, with fields replaced or added."""
    fields = {field["name"]: field for field in (*MINIMAL, *changes)}
    fields.pop(without, None)
    return json.dumps({"type": "record", "name": name, "fields": list(fields.values())})


def avro(schema: str, **changes: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), RECORD | changes)
    return out.getvalue()


def decode(schema: str, data: bytes, limits: DecodeLimits | None = None) -> EventFields:
    decoder = Decoder(limits)
    decoder.add_schema(9, schema)
    return decoder.decode(b"\0\0\0\0\x09" + data)


def reason_of(schema: str, data: bytes) -> tuple[DecodeReason, str]:
    with pytest.raises(DecodeError) as caught:
        decode(schema, data)
    return caught.value.reason, str(caught.value)


# --- our own records


def test_what_is_encoded_is_decoded() -> None:
    registry = InMemoryRegistry()
    event = Event(
        event_type="W_Completeren aanvraag",
        entity_id="é" * 100,
        payload={"n": 2**80, "note": "\u2028 \\u0000 ✓"},
        actor_type="user",
        actor_id="112",
        causation_id="c" * 1024,
        metadata={"tags": ["a"]},
    )
    value = EventEncoder(registry).encode(event, "parcels")
    decoder = Decoder()
    assert not decoder.knows(decoder.schema_id(value))
    decoder.add_schema(1, registry.schema(1))
    assert decoder.knows(1)
    assert decoder.decode(value) == EventFields.of(event)


def test_fastavro_reads_what_is_encoded() -> None:
    event = Event(event_type="t", entity_id="e", payload={"a": 1}, correlation_id="c", occurred_at=AT)
    value = EventEncoder(InMemoryRegistry()).encode(event, "parcels")
    record: Any = fastavro.schemaless_reader(
        io.BytesIO(value[5:]), fastavro.parse_schema(json.loads(GENERIC_SCHEMA)), None
    )
    assert record["event_id"] == event.event_id
    assert record["occurred_at"] == AT
    assert (record["correlation_id"], record["idempotency_key"]) == ("c", None)
    assert (record["payload"], record["content_hash"]) == ('{"a":1}', event.content_hash)


def test_fastavro_writes_what_is_decoded() -> None:
    fields = decode(GENERIC_SCHEMA, avro(GENERIC_SCHEMA, metadata='{"tags":["x"]}', actor_id="7"))
    assert fields == EventFields(
        event_id=ID.bytes,
        event_type="parcel.collected",
        occurred_at=AT_MICROS,
        actor_type=None,
        actor_id="7",
        entity_id="PX-1",
        tenant_id="default",
        correlation_id=str(ID),
        causation_id=None,
        schema_version=1,
        idempotency_key=str(ID),
        content_hash=content_hash("parcel.collected", "PX-1", b'{"depot":"KI-2"}'),
        payload=b'{"depot":"KI-2"}',
        metadata=b'{"tags":["x"]}',
    )


# --- foreign records


def test_minimal_schema_in_a_foreign_namespace() -> None:
    fields = decode(record_schema(), avro(record_schema()))
    assert (fields.event_id, fields.tenant_id, fields.schema_version) == (ID.bytes, "default", 1)
    assert (fields.correlation_id, fields.metadata) == (str(ID), b"{}")


@pytest.mark.parametrize(
    ("field", "kind", "value", "expected"),
    [
        ("event_id", {"type": "string", "logicalType": "uuid"}, ID, ID.bytes),
        ("event_id", {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}, ID.bytes, ID.bytes),
        ("event_id", {"type": "fixed", "name": "Id", "size": 16}, ID.bytes, ID.bytes),
        ("event_id", "string", str(ID).upper(), ID.bytes),
        ("event_type", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, "B", "B"),
        ("occurred_at", {"type": "long", "logicalType": "timestamp-millis"}, AT, AT_MICROS),
        (
            "occurred_at",
            {"type": "long", "logicalType": "timestamp-nanos"},
            AT_MICROS * 1000 + 999,
            AT_MICROS,
        ),
        ("occurred_at", {"type": "long", "logicalType": "timestamp-nanos"}, -1, -1),
        ("entity_id", "long", -42, "-42"),
        ("entity_id", {"type": "string", "logicalType": "uuid"}, ID, str(ID)),
        ("entity_id", ["string", "int"], 7, "7"),
        ("tenant_id", ["null", "string"], None, "default"),
        ("actor_id", "string", "", None),
        (
            "correlation_id",
            {"type": "fixed", "name": "C", "size": 16, "logicalType": "uuid"},
            ID.bytes,
            str(ID),
        ),
        ("correlation_id", "string", "", str(ID)),
        ("schema_version", "long", 3, 3),
        ("schema_version", ["null", "int"], None, 1),
        ("content_hash", {"type": "fixed", "name": "H", "size": 16}, b"h" * 16, b"h" * 16),
        ("payload", "bytes", b'{"a":1}', b'{"a":1}'),
        ("payload", {"type": "map", "values": ["null", "long"]}, {"a": 1}, b'{"a":1}'),
        ("metadata", {"type": "record", "name": "M", "fields": []}, {}, b"{}"),
    ],
)
def test_types_that_a_field_may_have(field: str, kind: Any, value: Any, expected: Any) -> None:
    schema = record_schema({"name": field, "type": kind})
    assert getattr(decode(schema, avro(schema, **{field: value})), field) == expected


def test_unknown_fields_are_read_past() -> None:
    schema = record_schema(
        {"name": "trace", "type": {"type": "array", "items": "bytes"}},
        {"name": "actor_id", "type": "string"},
    )
    assert decode(schema, avro(schema, trace=[b"\0", b"\xff\xfe"], actor_id="a")).actor_id == "a"


def test_content_hash_of_a_foreign_record_is_the_producers() -> None:
    """Whatever order and spacing a foreign writer uses, its retry of our event is no conflict."""
    event = Event(event_type="t", entity_id="e", payload={"b": 2**70, "a": ["é", 1.0]})
    payload = f' {{"a": ["\\u00e9", 1.0],\n "b": {2**70}}}'
    schema = record_schema()
    decoded = decode(schema, avro(schema, event_type="t", entity_id="e", payload=payload))
    assert decoded.content_hash == event.content_hash
    assert decoded.payload == payload.encode()


@pytest.mark.parametrize("missing", ["event_id", "event_type", "occurred_at", "entity_id", "payload"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(UnsupportedSchema, match=f"com.example.Fact lacks the envelope's field {missing}:"):
        Decoder().add_schema(1, record_schema(without=missing))


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("event_id", "bytes"),
        ("occurred_at", "long"),
        ("occurred_at", {"type": "long", "logicalType": "local-timestamp-micros"}),
        ("occurred_at", {"type": "int", "logicalType": "date"}),
        ("entity_id", "bytes"),
        ("entity_id", "null"),
        ("entity_id", ["null", {"type": "array", "items": "string"}]),
        ("schema_version", "string"),
        ("content_hash", {"type": "fixed", "name": "H", "size": 20}),
        ("payload", {"type": "array", "items": "string"}),
        ("metadata", "int"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field: str, kind: Any) -> None:
    with pytest.raises(UnsupportedSchema, match=f"envelope's field {field} is .*; it has to be "):
        Decoder().add_schema(1, record_schema({"name": field, "type": kind}))


# --- bad records


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0\0\1"])
def test_too_short(value: bytes) -> None:
    for read in (Decoder().decode, Decoder().schema_id):
        with pytest.raises(DecodeError) as caught:
            read(value)
        assert caught.value.reason is DecodeReason.TOO_SHORT


def test_wrong_magic() -> None:
    for read in (Decoder().decode, Decoder().schema_id):
        with pytest.raises(DecodeError, match="0x7b") as caught:
            read(b'{"event_type":"t"}')
        assert caught.value.reason is DecodeReason.WRONG_MAGIC


def test_a_schema_that_was_not_added_is_no_fault_of_the_record() -> None:
    with pytest.raises(SchemaNotLoaded) as caught:
        Decoder().decode(b"\0\0\0\1\0rest")
    assert caught.value.schema_id == 256
    assert not isinstance(caught.value, DecodeError)


def test_a_refused_schema_is_remembered() -> None:
    decoder = Decoder()
    with pytest.raises(UnsupportedSchema, match=r"schema id 5: .*not JSON"):
        decoder.add_schema(5, "{")
    assert decoder.knows(5)
    for _ in range(2):
        with pytest.raises(UnsupportedSchema, match="schema id 5"):
            decoder.decode(b"\0\0\0\0\5")


def test_every_cut_is_truncated_and_every_addition_trails() -> None:
    for schema in (GENERIC_SCHEMA, record_schema()):
        data = avro(schema)
        for length in range(len(data)):
            reason, _ = reason_of(schema, data[:length])
            assert reason is DecodeReason.TRUNCATED, length
        reason, message = reason_of(schema, data + b"\0")
        assert reason is DecodeReason.TRAILING_BYTES
        assert "1 bytes follow" in message


@pytest.mark.parametrize("schema", [GENERIC_SCHEMA, record_schema({"name": "metadata", "type": "string"})])
@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"event_type": "a\0b"}, DecodeReason.NUL, "event_type: holds a NUL"),
        ({"entity_id": "x" * 1025}, DecodeReason.INVALID_FIELD, "entity_id: has 1025 bytes"),
        ({"entity_id": "é" * 513}, DecodeReason.INVALID_FIELD, "entity_id: has 1026 bytes"),
        ({"entity_id": ""}, DecodeReason.INVALID_FIELD, "entity_id: is empty"),
        ({"event_id": "17-b"}, DecodeReason.INVALID_FIELD, "event_id: is '17-b', which is no UUID"),
        ({"event_id": str(ID).replace("0", "g")}, DecodeReason.INVALID_FIELD, "no UUID"),
        ({"event_id": "01932f6e-7b00-7000-8000-0000 0000001"}, DecodeReason.INVALID_FIELD, "no UUID"),
        ({"event_id": ID.hex + "----"}, DecodeReason.INVALID_FIELD, "no UUID"),
        (
            {"occurred_at": 253_402_300_800_000_000},
            DecodeReason.INVALID_FIELD,
            "occurred_at: is .*years 1 to 9999",
        ),
        ({"occurred_at": -(2**63)}, DecodeReason.INVALID_FIELD, "years 1 to 9999"),
        ({"payload": ""}, DecodeReason.INVALID_JSON, "payload: is not JSON"),
        ({"payload": "[1]"}, DecodeReason.INVALID_JSON, "payload: is JSON, but not an object"),
        ({"payload": '{"a":1} x'}, DecodeReason.INVALID_JSON, "payload: is not JSON"),
        ({"payload": '{"a":NaN}'}, DecodeReason.NOT_FINITE, "payload: holds NaN"),
        ({"payload": '{"a":-Infinity}'}, DecodeReason.NOT_FINITE, "payload: holds -Infinity"),
        ({"payload": '{"a":1e999}'}, DecodeReason.NOT_FINITE, "payload: holds 1e999"),
        ({"payload": '{"a":"\\u0000"}'}, DecodeReason.NUL, "payload: holds"),
        ({"payload": '{"\\\\\\u0000":1}'}, DecodeReason.NUL, "payload: holds"),
        ({"payload": '{"a":"\\ud800"}'}, DecodeReason.SURROGATE, "payload: holds half of a surrogate pair"),
        ({"payload": '{"\\udc00":1}'}, DecodeReason.SURROGATE, "payload"),
        ({"payload": '{"a":"\0"}'}, DecodeReason.INVALID_JSON, "payload"),
        ({"payload": '{"a":' + "[" * 300 + "]" * 300 + "}"}, DecodeReason.TOO_DEEP, "payload: is nested 301"),
        (
            {"payload": '{"a":' + "[" * 9000 + "]" * 9000 + "}"},
            DecodeReason.TOO_DEEP,
            "payload: is nested deeper",
        ),
        ({"metadata": "null"}, DecodeReason.INVALID_JSON, "metadata: is JSON, but not an object"),
        ({"metadata": '{"a":"\\u0000"}'}, DecodeReason.NUL, "metadata"),
    ],
)
def test_bad_values(schema: str, changes: dict[str, Any], reason: DecodeReason, said: str) -> None:
    typeless = schema.replace('"logicalType"', '"logical"') if "event_id" in changes else schema
    found, message = reason_of(schema, avro(typeless, **changes | _raw_time(typeless, changes)))
    assert found is reason
    assert re.search(said, message), message


def _raw_time(schema: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Without its logical type the time is a number."""
    return {} if "logicalType" in schema or "occurred_at" in changes else {"occurred_at": AT_MICROS}


def test_backslashes_before_u0000_are_counted() -> None:
    """Four backslashes and u0000 are two backslashes and the text u0000: nothing that PostgreSQL minds."""
    payload = '{"a":"\\\\\\\\u0000","b":"\\\\u0000"}'
    assert decode(GENERIC_SCHEMA, avro(GENERIC_SCHEMA, payload=payload)).payload == payload.encode()


@pytest.mark.parametrize(
    ("version", "hashed", "said"),
    [
        (0, None, "schema_version: is 0"),
        (-1, None, "schema_version"),
        (1, b"short", "content_hash: has 5 bytes"),
    ],
)
def test_bad_numbers(version: int, hashed: bytes | None, said: str) -> None:
    data = avro(GENERIC_SCHEMA, schema_version=version, content_hash=hashed)
    reason, message = reason_of(GENERIC_SCHEMA, data)
    assert reason is DecodeReason.INVALID_FIELD
    assert said in message


@pytest.mark.parametrize("field", ["event_type", "payload", "metadata", "actor_id"])
def test_invalid_utf8(field: str) -> None:
    data = avro(GENERIC_SCHEMA, **{field: '{"a":"MARK"}'}).replace(b"MARK", b"\xed\xa0\x80K")
    reason, message = reason_of(GENERIC_SCHEMA, data)
    assert reason is DecodeReason.INVALID_UTF8
    assert message.startswith(f"{field}: is not UTF-8 at byte")


@pytest.mark.parametrize("payload", [{"k": "a\0b"}, {"k\0": "ab"}])
def test_nul_in_a_typed_payload(payload: dict[str, str]) -> None:
    schema = nested_schema(mapping("string"))
    reason, message = reason_of(schema, avro(schema, payload=payload))
    assert reason is DecodeReason.NUL
    assert message.startswith("payload: holds")


def test_null_where_a_value_is_needed() -> None:
    schema = record_schema({"name": "entity_id", "type": ["null", "string"]})
    reason, message = reason_of(schema, avro(schema, entity_id=None))
    assert reason is DecodeReason.INVALID_FIELD
    assert message == "entity_id: is null; every event has one"


@pytest.mark.parametrize(
    ("at", "new", "said"),
    [
        (0, b"\x01", "event_id: has a negative length"),
        (0, b"\xff" * 11, "event_id: has a negative length"),  # fastavro drops the bits beyond 64
        (0, b"\xff" * 9 + b"\x7f", "event_id: has a negative length"),
        (0, b"\xfe\xff\xff\xff\x0f", "event_id: needs 2147483647 bytes"),
    ],
)
def test_malformed_numbers(at: int, new: bytes, said: str) -> None:
    data = avro(GENERIC_SCHEMA)
    _, message = reason_of(GENERIC_SCHEMA, data[:at] + new + data[at + 1 :])
    assert said in message


@pytest.mark.parametrize("field", ["event_type", "actor_id", "entity_id", "tenant_id", "payload", "metadata"])
def test_a_negative_length_is_never_read_as_a_positive_one(field: str) -> None:
    """Zigzag keeps the sign in the lowest bit: -7 and 6 differ in that alone."""
    marked = '{"k":"MARK"}'
    data = avro(GENERIC_SCHEMA, **{field: marked})
    start = data.index(marked.encode()) - 1
    reason, message = reason_of(GENERIC_SCHEMA, data[:start] + bytes([data[start] | 1]) + data[start + 1 :])
    assert reason is DecodeReason.MALFORMED
    assert message.startswith(f"{field}: has a negative length, -13")


def test_malformed_union_enum_boolean() -> None:
    schema = record_schema(
        {"name": "actor_id", "type": ["null", "string"]},
        {"name": "tenant_id", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
        {"name": "extra", "type": "boolean"},
    )
    data = avro(schema, actor_id=None, tenant_id="A", extra=True)
    assert data.endswith(b"\0\0\1")
    reason, message = reason_of(schema, data[:-3] + b"\4\0\1")
    assert reason is DecodeReason.MALFORMED
    assert message.startswith("actor_id: has a union branch that is not there")
    assert "has the enum symbol -1" in reason_of(schema, data[:-3] + b"\0\1\1")[1]
    schema = nested_schema(record("P", "boolean"))
    data = avro(schema, payload={"f0": True})
    assert "payload: f0: has the byte 02, which is no boolean" in reason_of(schema, data[:-1] + b"\2")[1]


def test_a_value_beyond_the_limit() -> None:
    limits = DecodeLimits(max_record_bytes=200)
    assert decode(GENERIC_SCHEMA, avro(GENERIC_SCHEMA), limits)
    with pytest.raises(DecodeError) as caught:
        decode(GENERIC_SCHEMA, avro(GENERIC_SCHEMA, payload='{"a":"' + "x" * 200 + '"}'), limits)
    assert caught.value.reason is DecodeReason.TOO_LARGE


# --- hostile schemas


def nested_schema(payload: Any) -> str:
    return record_schema({"name": "payload", "type": payload})


def chain(length: int) -> list[Any]:
    """Records, each of two fields of the one before: flat as text, exponential in what comes out."""
    fields: list[Any] = [{"name": "r0", "type": {"type": "record", "name": "R0", "fields": []}}]
    for n in range(1, length):
        inner = [{"name": "a", "type": f"R{n - 1}"}, {"name": "b", "type": f"R{n - 1}"}]
        fields.append({"name": f"r{n}", "type": {"type": "record", "name": f"R{n}", "fields": inner}})
    return fields


def record(name: str, *kinds: Any) -> dict[str, Any]:
    fields = [{"name": f"f{n}", "type": kind} for n, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "fields": fields}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def mapping(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


RECURSIVE = nested_schema(record("A", ["null", "A"]))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("[" * 50_000 + "]" * 50_000, "nested 50000 brackets deep"),
        ('{"type":' * 50_000 + '"string"' + "}" * 50_000, "nested 50000 brackets deep"),
        ('{"type":"array","items":' * 40_000, "nested 40000 brackets deep"),
        ('"' + "\\" * 500_000, "not JSON"),
        ('"\\"' * 100_000, "not JSON"),
        (json.dumps("x" * (1 << 20)), "max_schema_bytes"),
        (RECURSIVE, "A contains itself"),
        (nested_schema(mapping(["long", "Fact"])), "com.example.Fact contains itself"),
        (nested_schema(record("A", array("null"))), "values_per_byte"),
        (nested_schema(mapping(array({"type": "fixed", "name": "F", "size": 0}))), "values_per_byte"),
        (nested_schema(mapping(array(record("E")))), "values_per_byte"),
        (nested_schema(mapping(record("W", *["null"] * 40))), "values_per_byte"),
        (nested_schema(mapping(array(["int", record("W", *["null"] * 40)]))), "values_per_byte"),
        (nested_schema({"type": "record", "name": "P", "fields": chain(40)}), "take no bytes"),
        (nested_schema({"type": "record", "name": "P", "fields": chain(80)}), "nested deeper than 64"),
        ('"string"', "the schema is a string"),
        ("17", "is no Avro type"),
        ("[]", "a union without branches"),
        ('{"type":"record","name":"A"}', "a record needs its fields"),
        ('{"type":"record","fields":[]}', "a record needs a name"),
        ('{"type":"fixed","name":"F","size":-1}', "size is -1"),
        ('{"type":"enum","name":"E","symbols":["a","a"]}', "have to be different"),
        ('{"type":"array"}', "array without items"),
        ('{"type":"date-time"}', "not defined before"),
        ('["string","string"]', "have to be different types"),
    ],
)
def test_hostile_schemas_are_refused(schema: str, said: str) -> None:
    with pytest.raises(UnsupportedSchema, match=said):
        Decoder().add_schema(1, schema)


def test_a_recursive_schema_never_sees_its_record() -> None:
    """fastavro 1.13.1 dies (SIGSEGV) of these 20 KB under this schema."""
    decoder = Decoder()
    with pytest.raises(UnsupportedSchema):
        decoder.add_schema(1, RECURSIVE)
    with pytest.raises(UnsupportedSchema, match="contains itself"):
        decoder.decode(b"\0\0\0\0\1" + b"\2" * 20_000)


def test_an_item_count_costs_no_memory() -> None:
    """fastavro 1.13.1 made 10 million items, 77 MiB, of five bytes of array<null>. Here none is."""
    schema = nested_schema(mapping(array("boolean")))
    data = avro(schema, payload={"k": []})
    assert data.endswith(b"\2k\0\0")
    tracemalloc.start()
    try:
        reason, message = reason_of(schema, data[:-2] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert reason is DecodeReason.TRUNCATED
    assert message.startswith("payload: ")


def test_ordinary_wide_records_pass_inside_arrays() -> None:
    schema = nested_schema(mapping(array(["null", record("Wide", *[["null", "string"]] * 200)])))
    item = {f"f{i}": None for i in range(200)}
    assert json.loads(decode(schema, avro(schema, payload={"k": [item, None]})).payload) == {
        "k": [item, None]
    }


@pytest.mark.parametrize(
    "name", ["max_schema_bytes", "max_type_depth", "values_per_byte", "max_record_bytes"]
)
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"DecodeLimits.{name} is 0"):
        DecodeLimits(**{name: 0})


def test_a_length_without_end_is_given_up_early() -> None:
    """Put together to its end it was quadratic work: 80 KB took half a second, 1 MB more than a minute."""
    with pytest.raises(ValueError, match="without end"):
        _long_size(b"\xff" * 40 + b"\x01", 0)
