"""Reading Avro's binary encoding, by fastavro.

It is given schemas of `_forms`, never a foreign text. Whatever it raises over a record's bytes becomes a
`DecodeError` here.
"""

from bisect import bisect_left
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader

from penstock_schemas.errors import DecodeError, DecodeReason


class Wire:
    """The encoding of a record that has these fields: names and fastavro's schemas of them."""

    def __init__(self, fields: dict[str, Any]) -> None:
        parts = [{"name": name, "type": schema} for name, schema in fields.items()]
        self._schema: Any = parse_schema({"type": "record", "name": "wire", "fields": parts})

    def read(self, stream: BytesIO) -> dict[str, Any]:
        """The next record of the stream. Raises `DecodeError`, naming the field."""
        start = stream.tell()
        try:
            return schemaless_reader(stream, self._schema, None)  # type: ignore[return-value]
        except MemoryError:  # no fault of the bytes
            raise
        except Exception as error:  # another's code: nothing that it may raise is more than a bad record
            fault = _fault(error, stream)
            raise DecodeError(fault.reason, f"{self._field_at_fault(stream, start)}: {fault}") from None

    def _field_at_fault(self, stream: BytesIO, start: int) -> str:
        fields = self._schema["fields"]

        def fails(last: int) -> bool:
            stream.seek(start)
            try:
                schemaless_reader(stream, {**self._schema, "fields": fields[: last + 1]}, None)
            except Exception:
                return True
            return False

        return str(fields[bisect_left(range(len(fields) - 1), True, key=fails)]["name"])


def _fault(error: Exception, stream: BytesIO) -> DecodeError:
    at, data = stream.tell(), stream.getvalue()
    if isinstance(error, UnicodeDecodeError):
        start = at - len(error.object) + error.start
        return DecodeError(DecodeReason.INVALID_UTF8, f"is not UTF-8 at byte {start}: {error.reason}")
    # "Expected 12 bytes, read 3": the length that was asked for, which may be negative.
    length = int(str(error).split()[1]) if str(error).startswith("Expected ") else 0
    if length < 0:
        return DecodeError(DecodeReason.MALFORMED, f"has a negative length, {length}")
    # Inside of a number fastavro reports the end as an IndexError, like a union's branch that is not there.
    if isinstance(error, EOFError) or (at == len(data) and data[-1:] >= b"\x80"):
        needs = f"needs {length} bytes" if length else "goes on"
        return DecodeError(DecodeReason.TRUNCATED, f"{needs}, but the record ends at byte {at}")
    if isinstance(error, IndexError):
        return DecodeError(DecodeReason.MALFORMED, f"has a union branch that is not there, before byte {at}")
    return DecodeError(DecodeReason.MALFORMED, f"cannot be read: {type(error).__name__}: {error}")
