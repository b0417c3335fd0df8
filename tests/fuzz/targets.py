"""What the fuzzer feeds: framing, decoding, COPY rows, schemas' texts. Pure, so a corpus is replayed
anywhere.

An input's first byte chooses a schema of `SCHEMAS`, or one of the two kinds beyond them: a whole Kafka value,
a schema's text. The rest is the record's Avro data, the value, or the text.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from penstock_schemas import EventPayload
from penstock_schemas.decoder import Decoder
from penstock_schemas.derive import typed_schema
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.errors import DecodeError, SchemaNotLoaded, UnsupportedSchema
from penstock_schemas.fields import EventFields
from penstock_store.ingest.rows import COLUMNS, copy_chunk, encode_row

__all__ = ["SCHEMAS", "SCHEMA_TEXT", "VALUE", "try_input"]


class Typed(EventPayload, event_type="fuzz.typed", version=2):
    """A payload of our own models."""

    text: str
    number: int
    share: float
    more: dict[str, list[int]]
    maybe: str | None = None


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


def _foreign(payload: Any, *more: dict[str, Any]) -> str:
    """A foreign writer's envelope: other order, other types, fields that we do not know."""
    return json.dumps({
        "type": "record",
        "name": "com.example.Fact",
        "fields": [
            _field("payload", payload),
            _field("occurred_at", {"type": "long", "logicalType": "timestamp-millis"}),
            _field("event_id", {"type": "string", "logicalType": "uuid"}),
            _field("entity_id", ["null", "string"]),
            _field("event_type", {"type": "enum", "name": "Kind", "symbols": ["made", "lost"]}),
            *more,
        ],
    })  # fmt: skip


_MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
_NESTED = {
    "type": "record",
    "name": "Body",
    "fields": [
        _field("money", _MONEY),
        _field("raw", {"type": "fixed", "name": "Raw", "size": 3}),
        _field("either", ["null", "long", "string", {"type": "array", "items": "double"}]),
        _field("many", {"type": "map", "values": {"type": "array", "items": ["int", "boolean"]}}),
        _field("day", {"type": "int", "logicalType": "date"}),
        _field("deep", {"type": "array", "items": {"type": "map", "values": "bytes"}}),
    ],
}
SCHEMAS = (
    GENERIC_SCHEMA,
    typed_schema(Typed)[1],
    GENERIC_SCHEMA.replace('"type":"int"', '"type":"long"'),  # ours but for one type: the general reader
    _foreign("string", _field("extra", {"type": "array", "items": "float"})),
    _foreign(_NESTED),
)
VALUE, SCHEMA_TEXT = len(SCHEMAS), len(SCHEMAS) + 1

_DECODER = Decoder()
for _number, _schema in enumerate(SCHEMAS):
    _DECODER.add_schema(_number, _schema)
_WIDTHS = {0: 8, 1: 8, 2: 16, 4: 8, 11: 4, 13: 16}  # of columns of fixed width, in COPY's order


def try_input(data: bytes) -> None:
    """Raises AssertionError, or whatever should not have been raised; a refusal with its reason is fine."""
    if not data:
        return
    kind, rest = data[0] % (len(SCHEMAS) + 2), data[1:]
    if kind == SCHEMA_TEXT:
        _try_schema(rest)
    elif kind == VALUE:
        _try_value(rest)
    else:
        _try_value(b"\0" + kind.to_bytes(4, "big") + rest)


def _try_value(value: bytes) -> None:
    """Fields and rows agree, on an event or on the reason for its refusal; a row is one that COPY takes."""
    fields, row = _outcome(_DECODER.decode, value), _outcome(_DECODER.row, value)
    if not isinstance(fields, EventFields):
        assert row == fields, f"decode says {fields!r}, row {row!r}"
        return
    assert row[3] == encode_row(fields), "decode and row make different cells"
    _check_copy(copy_chunk([row[3]], [1], 1_700_000_000_000_000), fields)


def _outcome(read: Any, value: bytes) -> Any:
    try:
        return read(value)
    except DecodeError as error:
        return error.reason
    except SchemaNotLoaded as error:
        return error.args


def _try_schema(text: bytes) -> None:
    decoder = Decoder()
    with suppress(UnsupportedSchema):
        decoder.add_schema(1, text.decode(errors="replace"))
    assert decoder.knows(1)
    for data in (b"", bytes(64), b"\x02" * 64):  # what was accepted can be read with
        _outcome(decoder.decode, b"\0\0\0\0\1" + data)


def _check_copy(chunk: bytes, fields: EventFields) -> None:
    """Binary COPY's own rules: the number of columns, then each column's length and bytes, nothing more."""
    assert int.from_bytes(chunk[:2], "big") == len(COLUMNS)
    at, cells = 2, list[bytes | None]()
    for _ in COLUMNS:
        size = int.from_bytes(chunk[at : at + 4], "big", signed=True)
        at += 4
        assert size >= -1
        cells.append(None if size < 0 else chunk[at : at + size])
        at += max(size, 0)
    assert at == len(chunk), "the lengths do not add up"
    for column, width in _WIDTHS.items():
        assert len(cells[column] or b"") == width, COLUMNS[column]
    for name, cell in zip(COLUMNS[2:], cells[2:], strict=True):
        _check_cell(name, cell, getattr(fields, name))


def _check_cell(name: str, cell: bytes | None, value: Any) -> None:
    assert (cell is None) == (value is None), name
    if cell is None or isinstance(value, int):
        return
    if name in ("payload", "metadata"):
        assert cell[:1] == b"\1", name
        json.loads(cell[1:])
        assert b"\\u0000" not in cell.replace(b"\\\\", b""), name
    elif isinstance(value, str):
        assert cell.decode() == value, name
        assert "\0" not in value, name
