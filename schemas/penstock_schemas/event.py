"""The event: what happened, to what, by whom, when. Immutable, validated when made."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from penstock_schemas._content_hash import content_hash
from penstock_schemas._ids import new_id, uuid_text
from penstock_schemas._text import MAX_IDENTIFIER_BYTES, check_identifier, check_object, known_good_json
from penstock_schemas._typed_payload import payload_writer
from penstock_schemas.payload import EventPayload

__all__ = ["Event", "EventPayload", "RecordedEvent", "content_hash", "foreign_event_id"]

Identifier = Annotated[str, AfterValidator(check_identifier)]
"""Text that is indexed: not empty, at most 1,024 bytes of UTF-8, neither NUL nor lone surrogates."""

_FOREIGN = uuid.uuid5(uuid.NAMESPACE_URL, "urn:penstock:foreign-event-id")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Event(BaseModel):
    """One event.

    Fields are keyword-only; unknown ones are refused; bad ones raise `pydantic.ValidationError`.

    `occurred_at` must know its time zone and is kept in UTC, in microseconds. `correlation_id` and
    `idempotency_key` default to the event id; a key of your own is what protects against an event emitted
    twice, since every new event has a new id. `payload` and `metadata` are JSON objects without NaN, NUL and
    lone surrogates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: Identifier
    entity_id: Identifier
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    event_id: uuid.UUID = Field(default_factory=new_id)
    occurred_at: AwareDatetime = Field(default_factory=_utc_now)
    actor_type: Identifier | None = None
    actor_id: Identifier | None = None
    tenant_id: Identifier = "default"
    correlation_id: Identifier = Field(default=cast("str", None), validate_default=True)
    causation_id: Identifier | None = None
    schema_version: int = Field(default=1, ge=1, le=2**31 - 1)
    idempotency_key: Identifier = Field(default=cast("str", None), validate_default=True)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    _typed: EventPayload | None = PrivateAttr(default=None)
    _encoded: bytes | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, payload: EventPayload, *, entity_id: str, **fields: Any) -> Self:
        """An event of a typed payload: type and schema version are the payload's, `payload` its JSON form.

        The producer encodes such an event with the payload as a nested Avro record. Raises `InvalidEvent`
        where a value does not fit the derived schema, `pydantic.ValidationError` for the other fields.
        """
        kind = type(payload)
        encoded, form, text = payload_writer(kind)(payload)
        values = None if text is None or cls is not Event else _assembled(kind, entity_id, fields)
        if values is None:
            own = {"event_type": kind.event_type, "schema_version": kind.event_version}
            event = cls(**own, entity_id=entity_id, payload=form, **fields)
        else:
            values["payload"], values["payload_json"] = form, text
            event = _new(cls)
            _set_values(event, values)
            _set_given(event, _OF.union(fields))
            _set_extra(event, None)
        _set_private(event, {"_typed": payload, "_encoded": encoded})
        return event

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy.

        Unlike pydantic's own, it validates what `update` changes; a new payload, event type or schema version
        makes a generic event.
        """
        if not update:
            copy = super().model_copy(deep=deep)
            copy.__dict__.pop("payload_json", None)
            return copy
        copy = type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | dict(update))
        if not update.keys() & {"payload", "event_type", "schema_version"}:
            copy._typed, copy._encoded = self._typed, self._encoded
        return copy

    @property
    def typed_payload(self) -> EventPayload | None:
        """The payload object that `Event.of` was given; None for a generic event."""
        return (self.__pydantic_private__ or {}).get("_typed")

    @property
    def encoded_payload(self) -> bytes | None:
        """The typed payload as an Avro record under its model's schema; None for a generic event."""
        return (self.__pydantic_private__ or {}).get("_encoded")

    @property
    def tags(self) -> tuple[str, ...]:
        """The labels in `metadata["tags"]`."""
        tags = self.metadata.get("tags", [])
        return tuple(str(tag) for tag in tags) if isinstance(tags, list) else ()

    @property
    def payload_json(self) -> bytes:
        """The payload's canonical JSON text, UTF-8."""
        text: bytes | None = self.__dict__.get("payload_json")  # cached_property takes a lock before 3.12
        if text is None:
            text = self.__dict__["payload_json"] = known_good_json(self.payload)
        return text

    @property
    def content_hash(self) -> bytes:
        """16 bytes, equal exactly for events of equal type, entity and payload."""
        return content_hash(self.event_type, self.entity_id, self.payload_json)

    @field_validator("correlation_id", "idempotency_key", mode="before")
    @classmethod
    def _default_to_event_id(cls, value: object, info: ValidationInfo) -> object:
        if value is not None:
            return value
        event_id = info.data.get("event_id")
        # Where the event id itself is refused, that is the one error to report.
        return uuid_text(event_id.int.to_bytes(16)) if event_id else "-"

    @field_validator("occurred_at")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise ValueError("is outside the years 1 to 9999 once it is in UTC") from None

    @field_validator("payload", "metadata")
    @classmethod
    def _storable(cls, value: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        check_object(value)
        tags = value.get("tags", [])
        if info.field_name == "metadata" and not (
            isinstance(tags, list) and all(isinstance(t, str) for t in tags)
        ):
            raise ValueError("has tags that are not a list of strings")
        return value


_OF = {"event_type", "schema_version", "entity_id", "payload"}
"""What `Event.of` sets itself."""
_NULLABLE = frozenset({"actor_type", "actor_id", "correlation_id", "causation_id", "idempotency_key"})
_IDENTIFIERS = _NULLABLE | {"tenant_id"}
# The four slots of a pydantic model, past its own way to them, which refuses a frozen one.
_new = object.__new__
_set_values, _set_given, _set_extra, _set_private = (
    BaseModel.__dict__[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


def _assembled(kind: type[EventPayload], entity_id: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """What validation makes of a typed event's fields, but its payload, where they need no conversion, at a
    tenth of its price. None: one may need it, or is wrong, and validation has the words for it.
    """
    own = _own_fields(kind)
    if own is None or not _are_plain(entity_id, fields):
        return None
    values = own | fields
    event_id = values["event_id"] = new_id()
    own_id = uuid_text(event_id.int.to_bytes(16))
    values["entity_id"], values["metadata"] = entity_id, {}
    if values["correlation_id"] is None:
        values["correlation_id"] = own_id
    if values["idempotency_key"] is None:
        values["idempotency_key"] = own_id
    if values["occurred_at"] is None:
        values["occurred_at"] = datetime.now(UTC)
    return values


@cache
def _own_fields(kind: type[EventPayload]) -> dict[str, Any] | None:
    """An event's fields as far as its payload's type says them; None where validation would refuse that."""
    try:
        made = Event(event_type=kind.event_type, schema_version=kind.event_version, entity_id="any")
    except ValueError:
        return None
    own = {"event_type": made.event_type, "schema_version": made.schema_version, "tenant_id": made.tenant_id}
    return dict.fromkeys(Event.model_fields) | own


def _are_plain(entity_id: object, fields: dict[str, Any]) -> bool:
    """Whether these are identifiers, times in UTC and what may be None."""
    if type(entity_id) is not str or not entity_id:
        return False
    together = entity_id
    for name, value in fields.items():
        if type(value) is str:
            if not value or name not in _IDENTIFIERS:
                return False
            together += value
        elif not (name in _NULLABLE if value is None else name == "occurred_at" and _is_utc(value)):
            return False
    # One look at all texts together: a closer one is hardly ever needed.
    if together.isascii() and len(together) <= MAX_IDENTIFIER_BYTES and "\0" not in together:
        return True
    try:
        for value in (entity_id, *fields.values()):
            if type(value) is str:
                check_identifier(value)
    except ValueError:
        return False
    return True


def _is_utc(value: object) -> bool:
    return type(value) is datetime and value.tzinfo is UTC


class RecordedEvent(Event):
    """An event as the store holds it.

    `sequence` is the store's total order, `recorded_at` the store's time, UTC.
    """

    sequence: int
    recorded_at: AwareDatetime


def foreign_event_id(source: str, id: str) -> uuid.UUID:  # noqa: A002 - CloudEvents' own word
    """The id itself where it is a UUID in its usual spelling, else the UUIDv5 of (source, id)."""
    try:
        own = uuid.UUID(id)
    except ValueError:
        own = None
    if own is not None and str(own) == id.lower():
        return own
    return uuid.uuid5(_FOREIGN, f"{len(source)}:{source}{id}")
