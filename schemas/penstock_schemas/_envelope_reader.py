"""From a record's bytes to an event or a row: fast paths for our own layout, a general one for every other.

A fast path is right or gives up; whatever it gives up on is read again by a slower one, and at last by the
general one, which knows the words for it.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

from penstock_schemas._avro_schema import Type, parse
from penstock_schemas._envelope_types import DEFAULTS, REQUIRED, REQUIRED_NAMES, field_form
from penstock_schemas._finish import finish, uuid_bytes
from penstock_schemas._forms import Form, Forms
from penstock_schemas._json_text import check_object
from penstock_schemas._row_reader import GIVES_UP, NestedPayload, read_row
from penstock_schemas._wire import Wire
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.errors import DecodeError, DecodeReason, UnsupportedSchema
from penstock_schemas.fields import EventFields
from penstock_schemas.limits import DecodeLimits
from penstock_schemas.rows import Row, row_of

EnvelopeReader = Callable[[bytes], EventFields]
RowReader = Callable[[bytes], Row]

HEADER = 5
"""Bytes before the Avro data: magic byte and schema id."""


def compile_envelope(root: Type) -> tuple[EnvelopeReader, RowReader]:
    """The two readers of a schema's records. They agree on every value: the same event, or the same error.

    Raises `UnsupportedSchema` naming the field that is missing or of a wrong type.
    """
    _check_names(root)
    forms = Forms()
    made = {field.name: field_form(field, forms) for field in root.fields}
    general = _general(made)
    layout = _layout(made)
    if layout == _OUR_LAYOUT:
        fast = _fast(general)
        return fast, _rows(fast, None)
    if [own for own in layout if own[0] != "payload"] == _AROUND_A_PAYLOAD and made["payload"].to_json:
        return general, _rows(general, _nested(made["payload"]))
    return general, _rows(general, None, ours=False)


def _layout(made: dict[str, Form]) -> list[Any]:
    return [(name, name != "occurred_at" or form.to_json, form.schema) for name, form in made.items()]


def _rows(fields: EnvelopeReader, nested: NestedPayload | None, *, ours: bool = True) -> RowReader:
    """The short way where the layout is ours; what it gives up on, and every other layout, by the fields."""

    def read(data: bytes) -> Row:
        if ours:
            try:
                return read_row(data, nested)
            except GIVES_UP:
                pass
        return row_of(fields(data))

    return read


def _nested(form: Form) -> NestedPayload:
    wire, to_json = Wire({"payload": form.schema}), form.to_json
    assert to_json is not None  # noqa: S101  only such a form is given

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        stream = BytesIO(data)
        stream.seek(at)
        text = to_json(wire.read(stream)["payload"])
        check_object(text, "payload")
        return text, stream.tell()

    return read


def _general(made: dict[str, Form]) -> EnvelopeReader:
    wire = Wire({name: form.schema for name, form in made.items()})
    slots = [(name, default, name in made and made[name].to_json) for name, default in DEFAULTS.items()]

    def read(data: bytes) -> EventFields:
        stream = BytesIO(data)
        stream.seek(HEADER)
        record = wire.read(stream)
        at = stream.tell()
        if at != len(data):
            raise DecodeError(
                DecodeReason.TRAILING_BYTES, f"{len(data) - at} bytes follow the event's end at byte {at}"
            )
        values = []
        for name, default, convert in slots:
            value = record.get(name)
            if value is None:
                value = default
            elif convert:
                try:
                    value = convert(value)
                except DecodeError as error:
                    raise DecodeError(error.reason, f"{name}: {error}") from None
            if value is REQUIRED:
                raise DecodeError(DecodeReason.INVALID_FIELD, f"{name}: is null; every event has one")
            values.append(value)
        return finish(*values)

    return read


def _check_names(root: Type) -> None:
    if root.kind != "record":
        raise UnsupportedSchema(f"the schema is a {root.kind}; an event is a record with {REQUIRED_NAMES}")
    present = {field.name for field in root.fields}
    missing = [name for name in REQUIRED_NAMES if name not in present]
    if missing:
        raise UnsupportedSchema(
            f"{root.name} lacks the envelope's field {' and '.join(missing)}: it is no event's schema"
        )


_LONG_OR_NEGATIVE = 0x81  # bits of a length's first byte: more bytes follow; a negative number
_OURS = b"TTNttTTttNtbBB"
"""One letter for each field of `envelope_schema`: text, number, bytes; in lower case where it may be null."""
_NUMBER, _NULLABLE, _BYTES = ord("N"), ord("a"), b"Bb"


def _read_ours(data: bytes, at: int) -> tuple[list[Any], int]:
    """The arguments of `finish`, and the position after the record.

    In one loop without calls, which would be half of the time (`python -m benchmarks.decode`). Nothing is
    checked for its own sake. An irregularity raises IndexError or ValueError, or shows as a position beyond
    the end.
    """
    values: list[Any] = []
    append = values.append
    for code in _OURS:
        if code == _NUMBER:
            number, at = _number(data, at)
            append((number >> 1) ^ -(number & 1))
            continue
        if code >= _NULLABLE:
            branch = data[at]
            at += 1
            if branch != 2:
                if branch:
                    raise ValueError
                append(None)
                continue
        size = data[at]
        at += 1
        if size & _LONG_OR_NEGATIVE:
            size, at = _number(data, at - 1)
            if size & 1 or size >> 1 > len(data):
                raise ValueError
        end = at + (size >> 1)
        append(data[at:end] if code in _BYTES else str(data[at:end], "utf-8"))
        at = end
    values[0] = uuid_bytes(values[0])
    return values, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An integer without its zigzag, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError


def _fast(general: EnvelopeReader) -> EnvelopeReader:
    def read(data: bytes) -> EventFields:
        try:
            values, at = _read_ours(data, HEADER)
        except (IndexError, ValueError):
            return general(data)
        return finish(*values) if at == len(data) else general(data)

    return read


_FORMS = Forms()
_OUR_LAYOUT = _layout(
    {own.name: field_form(own, _FORMS) for own in parse(GENERIC_SCHEMA, DecodeLimits()).fields}
)
_AROUND_A_PAYLOAD = [own for own in _OUR_LAYOUT if own[0] != "payload"]
