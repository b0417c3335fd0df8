"""Kafka values to events. Pure: it is given schemas, it asks nobody for them."""

from collections.abc import Callable
from typing import NoReturn, Protocol

from penstock_schemas._avro_schema import parse
from penstock_schemas._envelope_reader import HEADER, EnvelopeReader, RowReader, compile_envelope
from penstock_schemas.envelope import MAGIC
from penstock_schemas.errors import DecodeError, DecodeReason, SchemaNotLoaded, UnsupportedSchema
from penstock_schemas.fields import EventFields
from penstock_schemas.limits import DecodeLimits
from penstock_schemas.rows import Row

__all__ = ["Decoder", "SchemaSource"]


class SchemaSource(Protocol):
    """Where a worker gets the schema of an id that its decoder does not know yet."""

    async def schema(self, schema_id: int) -> str:
        """The schema's text.

        Raises `UnknownSchemaId` (dead-letter the records) or `RegistryUnavailable` (ask again).
        """
        ...


class Decoder:
    """Decodes values in Confluent's wire format under the schemas that it was given.

    Not shared between threads while schemas are added; decoding alone may be. A schema that is refused is
    remembered: its id is known, and each of its records raises the same `UnsupportedSchema`.
    """

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self._limits = limits or DecodeLimits()
        self._max_bytes = self._limits.max_record_bytes
        # By framing, the magic byte and schema id that a value begins with.
        self._fields: dict[bytes, EnvelopeReader] = {}
        self._rows: dict[bytes, RowReader] = {}

    def knows(self, schema_id: int) -> bool:
        """Whether `decode` can say something about this schema's records, be it that they are all refused."""
        return _framing(schema_id) in self._rows

    def add_schema(self, schema_id: int, schema: str) -> None:
        """Compile the schema of an id.

        Raises `UnsupportedSchema` where no event can come of it, and remembers that.
        """
        framing = _framing(schema_id)
        try:
            self._fields[framing], self._rows[framing] = compile_envelope(parse(schema, self._limits))
        except UnsupportedSchema as error:
            refusal = UnsupportedSchema(f"schema id {schema_id}: {error}")
            self._fields[framing] = self._rows[framing] = _always_raise(str(refusal))
            raise refusal from None

    def schema_id(self, value: bytes) -> int:
        """The schema id in a value's header. Raises `DecodeError` where there is none."""
        if value[:1] != MAGIC or len(value) < HEADER:
            raise _no_header(value)
        return int.from_bytes(value[1:HEADER], "big")

    def decode(self, value: bytes) -> EventFields:
        """The event of one Kafka value.

        Raises `DecodeError` for a value that never will be an event, `SchemaNotLoaded` where its schema has
        to be added first.
        """
        read = self._fields.get(value[:HEADER])
        if read is None or len(value) > self._max_bytes:
            raise self._refusal(value)
        return read(value)

    def row(self, value: bytes) -> Row:
        """The same event as a row of the store, at about a third of the price. Raises what `decode`
        raises.
        """
        read = self._rows.get(value[:HEADER])
        if read is None or len(value) > self._max_bytes:
            raise self._refusal(value)
        return read(value)

    def _refusal(self, value: bytes) -> DecodeError | SchemaNotLoaded:
        if len(value) > self._max_bytes:
            return DecodeError(
                DecodeReason.TOO_LARGE,
                f"the value has {len(value)} bytes, more than the limit of {self._max_bytes}"
                " (max_record_bytes)",
            )
        if value[:1] != MAGIC or len(value) < HEADER:
            return _no_header(value)
        return SchemaNotLoaded(self.schema_id(value))


def _framing(schema_id: int) -> bytes:
    return MAGIC + schema_id.to_bytes(4, "big")


def _always_raise(message: str) -> Callable[[bytes], NoReturn]:
    def refuse(value: bytes) -> NoReturn:
        raise UnsupportedSchema(message)

    return refuse


def _no_header(value: bytes) -> DecodeError:
    if len(value) < HEADER:
        return DecodeError(
            DecodeReason.TOO_SHORT,
            f"the value has {len(value)} bytes; magic byte and schema id take {HEADER}",
        )
    return DecodeError(
        DecodeReason.WRONG_MAGIC,
        f"the value begins with byte 0x{value[0]:02x}, not 0x00: it is not in Confluent's wire format",
    )
