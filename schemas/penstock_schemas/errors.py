"""Everything that this distribution raises.

`SchemasError` is the root. Two kinds matter to a worker: what is wrong with a record for ever (`DecodeError`,
`UnknownSchemaId`, `UnsupportedSchema`: dead-letter it) and what may be right in a minute
(`RegistryUnavailable`: wait, ask again).
"""

from enum import StrEnum

__all__ = [
    "CannotDeriveSchema",
    "CatalogueError",
    "DecodeError",
    "DecodeReason",
    "IncompatibleSchema",
    "InvalidEvent",
    "RegistryRefused",
    "RegistryUnavailable",
    "SchemaNotLoaded",
    "SchemasError",
    "UnknownSchemaId",
    "UnsupportedSchema",
]


class SchemasError(Exception):
    """Root of the errors of `penstock_schemas`."""


class InvalidEvent(SchemasError, ValueError):
    """An event breaks a rule of the envelope or of its payload's schema.

    `field` names the part at fault, `said` what is wrong with it: mend it there.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.said = message


class DecodeReason(StrEnum):
    """Why a record cannot become an event.

    The values are metric labels and dead-letter headers: they do not change.
    """

    TOO_SHORT = "too_short"
    WRONG_MAGIC = "wrong_magic"
    TOO_LARGE = "too_large"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"
    MALFORMED = "malformed"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    INVALID_FIELD = "invalid_field"
    NUL = "nul"
    SURROGATE = "surrogate"
    NOT_FINITE = "not_finite"
    TOO_MANY_ITEMS = "too_many_items"
    TOO_DEEP = "too_deep"


class DecodeError(SchemasError):
    """A record's bytes are not an event. It never will be: dead-letter it with `reason` and the message."""

    def __init__(self, reason: DecodeReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnsupportedSchema(DecodeError):
    """A schema is not Avro, is beyond the limits (size, depth, recursion), or lacks the envelope's fields.

    The records written with it are dead letters until their writer registers another schema.
    """

    def __init__(self, message: str) -> None:
        super().__init__(DecodeReason.UNSUPPORTED_SCHEMA, message)


class UnknownSchemaId(DecodeError):
    """The registry answered, and does not know the id.

    Its records are dead letters; redrive them once it is registered.
    """

    def __init__(self, schema_id: int, where: str) -> None:
        super().__init__(
            DecodeReason.UNKNOWN_SCHEMA,
            f"schema id {schema_id} is unknown to {where}; was the record written against another registry?",
        )
        self.schema_id = schema_id


class SchemaNotLoaded(SchemasError, LookupError):
    """A decoder met a schema id that it was not given.

    The record is not at fault: fetch the schema, add it, decode again.
    """

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"the decoder has no schema {schema_id}; call add_schema with it first")
        self.schema_id = schema_id


class RegistryUnavailable(SchemasError):
    """The registry did not give an answer to rely on (refused, timed out, 401, 403, 5xx). Wait and ask again:
    no record is at fault.
    """


class RegistryRefused(SchemasError):
    """The registry understood a request and refuses it (409, 422, …).

    Asking again does not help: change the schema or the request.
    """


class IncompatibleSchema(RegistryRefused):
    """A new version of a schema breaks the subject's compatibility level; `problems` says where."""

    def __init__(self, subject: str, problems: list[str]) -> None:
        super().__init__(f"the schema is not compatible with what {subject} holds: {'; '.join(problems)}")
        self.subject = subject
        self.problems = problems


class CannotDeriveSchema(SchemasError, TypeError):
    """A payload model has a field whose type has no Avro form here.

    The message names the field and the way out.
    """


class CatalogueError(SchemasError):
    """The event catalogue's files break its own layout, so that nothing in it can be checked."""
