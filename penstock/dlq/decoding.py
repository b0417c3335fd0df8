"""The event in a dead letter, where there is one: a conflict decodes, a torn record does not."""

from penstock_consumer.dlq import Letter
from penstock_schemas.decoder import Decoder
from penstock_schemas.errors import DecodeError, RegistryUnavailable, SchemaNotLoaded, SchemasError
from penstock_schemas.fields import EventFields
from penstock_schemas.registry import Registry

__all__ = ["LetterDecoder"]

_DEADLY = "ends_process"  # the cause of records that no process survives


class LetterDecoder:
    """Decodes with schemas of `registry`. A registry that is away is asked once; `fault` then says so."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._decoder = Decoder()
        self._unknown: set[int] = set()
        self.fault: str | None = None

    def event_type(self, letter: Letter) -> str | None:
        """See `penstock_consumer.dlq.queue.TypeOf`."""
        fields = self.fields(letter)
        return None if fields is None else fields.event_type

    def fields(self, letter: Letter) -> EventFields | None:
        """None for what is no event, or no longer whole, or ended a process before."""
        if letter.reference or letter.cause == _DEADLY:
            return None
        try:
            return self._decoder.decode(letter.value)
        except SchemaNotLoaded as error:
            return self.fields(letter) if self._learn(error.schema_id) else None
        except DecodeError:
            return None

    def _learn(self, schema_id: int) -> bool:
        if schema_id in self._unknown or self.fault is not None:
            return False
        try:
            self._decoder.add_schema(schema_id, self._registry.schema(schema_id))
        except RegistryUnavailable as error:
            self.fault = str(error)
        except SchemasError:
            self._unknown.add(schema_id)
        else:
            return True
        return False
