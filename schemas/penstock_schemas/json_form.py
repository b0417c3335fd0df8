r"""The JSON form of each Avro type: what a typed payload looks like in the store, and how it gets back.

| Avro type | JSON form |
|---|---|
| null, boolean | `null`, `true`, `false` |
| int, long | number (an integer of up to 64 bits; beyond that declare a decimal) |
| float, double | number; NaN and infinities are refused, they are not JSON |
| string, enum | string |
| bytes, fixed | string: base64 (RFC 4648 §4, padded). Avro's own Latin-1 form could hold NUL, which jsonb
refuses |
| array | array |
| map, record | object |
| decimal (bytes or fixed) | string with exactly `scale` digits after the point: `"12.50"` |
| uuid | string as written (string), in lower case with hyphens (fixed) |
| date | string: `"2026-01-31"`, years 1 to 9999 |
| time-millis, -micros | string: `"12:00:00.000"`, 3 or 6 digits |
| timestamp-millis, -micros, -nanos | string in UTC: `"2026-01-31T12:00:00.000Z"`, 3, 6 or 9 digits, years 1
to 9999 |
| local-timestamp-millis, -micros, -nanos | the same without `Z` |
| duration (fixed) | string: `"P1M2DT3.004S"`: months, days, milliseconds as Avro counts them |
| union | the value itself where no two branches have the same kind of JSON value, or where records differ by
a one-symbol enum \ (a discriminator); else `{"<branch>": value}`, null stays `null` |
| a logical type that is unknown or invalid | as its underlying type |

Generic events carry JSON text as it is: there an integer may have any size, and PostgreSQL's `numeric` inside
jsonb keeps it exactly.
"""

from io import BytesIO
from typing import Any

import orjson
from pydantic import JsonValue

from penstock_schemas._avro_schema import Type, parse
from penstock_schemas._forms import Forms
from penstock_schemas._scalars import BadValue
from penstock_schemas._text import known_good_json
from penstock_schemas._wire import Wire
from penstock_schemas._writers import Writers
from penstock_schemas.errors import DecodeError, DecodeReason, InvalidEvent
from penstock_schemas.limits import DecodeLimits

__all__ = ["JsonForm"]


class JsonForm:
    """Both directions between one Avro schema's binary encoding (no framing) and its JSON form.

    Raises `UnsupportedSchema` when made with a schema that is not Avro or beyond the limits.
    """

    def __init__(self, schema: str, limits: DecodeLimits | None = None) -> None:
        kind = parse(schema, limits or DecodeLimits())
        self._form = Forms().of(kind)
        self._write = Writers().of(kind)
        # Only floats are spelt in two ways, and the look for such a one costs more than the text.
        self.text = known_good_json if _has_floats(kind) else _text
        """The canonical JSON text of a record's form that `write` made."""
        self._wire = Wire({"value": self._form.schema})

    def to_json(self, data: bytes) -> JsonValue:
        """The JSON form of one encoded value. Raises `DecodeError`, also for bytes left over."""
        stream = BytesIO(data)
        form: JsonValue = self._wire.read(stream)["value"]
        if stream.tell() != len(data):
            raise DecodeError(
                DecodeReason.TRAILING_BYTES, f"{len(data) - stream.tell()} bytes follow the value"
            )
        return self._form.to_json(form) if self._form.to_json else form

    def to_avro(self, value: Any) -> bytes:
        """The encoding of a JSON form, or of the Python objects it stands for.

        Raises `InvalidEvent`, naming the part.
        """
        return self.write(value)[0]

    def write(self, value: Any) -> tuple[bytes, JsonValue]:
        """The same together with the JSON form, as `to_json` would read it. Raises `InvalidEvent`."""
        out = bytearray()
        try:
            form: JsonValue = self._write(value, out)
        except (ValueError, OverflowError) as error:
            path = error.path if isinstance(error, BadValue) else ""
            raise InvalidEvent(path or "the value", str(error)) from None
        return bytes(out), form


def _has_floats(kind: Type) -> bool:
    parts = [own.type for own in kind.fields] + kind.branches + ([kind.items] if kind.items else [])
    return kind.kind in ("float", "double") or any(map(_has_floats, parts))


def _text(form: Any) -> bytes:
    return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
