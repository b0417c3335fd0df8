"""The event: what happened, to what, by whom, when. Immutable, validated when made."""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
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

from penstock_schemas._ids import new_id
from penstock_schemas._text import MAX_JSON_DEPTH, canonical_json, check_identifier, known_good_json
from penstock_schemas.derive import payload_form
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
        form = payload_form(kind)
        encoded = form.to_avro(payload.model_dump(round_trip=True))
        fields = dict(
            event_type=kind.event_type,
            schema_version=kind.event_version,
            entity_id=entity_id,
            payload=form.to_json(encoded),
            **fields,
        )
        event = cls._assembled(fields) if cls is Event else None
        if event is None:
            event = cls(**fields)
        object.__setattr__(event, "__pydantic_private__", {"_typed": payload, "_encoded": encoded})
        return event

    @classmethod
    def _assembled(cls, fields: dict[str, Any]) -> Self | None:
        """What validation makes of a typed event's fields where they need no conversion, at a fifth of its
        price. None: one may need it, or is wrong, and validation has the words for it.
        """
        values = _ABSENT | {"metadata": {}}
        try:
            for name, value in fields.items():
                if name in _IDENTIFIERS and type(value) is str:
                    check_identifier(value)
                elif name not in _MADE and (name != "occurred_at" or not _is_utc(value)):
                    return None
                values[name] = value
            text = known_good_json(fields["payload"])  # its form let pass neither NaN nor lone surrogates
        except ValueError:
            return None
        if b"\\u0000" in text or text.count(b"{") + text.count(b"[") > MAX_JSON_DEPTH:
            return None
        values["event_id"] = new_id()
        own_id = str(values["event_id"])
        values["correlation_id"] = values["correlation_id"] or own_id
        values["idempotency_key"] = values["idempotency_key"] or own_id
        values["occurred_at"] = values["occurred_at"] or _utc_now()
        event = cls.__new__(cls)
        object.__setattr__(event, "__dict__", values | {"payload_json": text})
        object.__setattr__(event, "__pydantic_fields_set__", set(fields))
        object.__setattr__(event, "__pydantic_extra__", None)
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
        typed: EventPayload | None = _private(self, "_typed")
        return typed

    @property
    def encoded_payload(self) -> bytes | None:
        """The typed payload as an Avro record under its model's schema; None for a generic event."""
        encoded: bytes | None = _private(self, "_encoded")
        return encoded

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
        # Where the event id itself is refused, that is the one error to report.
        return str(info.data.get("event_id", "-")) if value is None else value

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
        canonical_json(value)
        tags = value.get("tags", [])
        if info.field_name == "metadata" and not (
            isinstance(tags, list) and all(isinstance(t, str) for t in tags)
        ):
            raise ValueError("has tags that are not a list of strings")
        return value


_ABSENT: dict[str, Any] = dict.fromkeys(Event.model_fields) | {"tenant_id": "default"}
_IDENTIFIERS = frozenset({
    "event_type", "entity_id", "actor_type", "actor_id", "tenant_id", "correlation_id", "causation_id",
    "idempotency_key",
})  # fmt: skip
_MADE = frozenset({"schema_version", "payload"})
"""What `Event.of` sets itself."""


def _is_utc(value: object) -> bool:
    return type(value) is datetime and value.tzinfo is UTC


def _private(event: Event, name: str) -> Any:
    # Pydantic's own way to a private attribute takes 1.3 µs, and every emitted event goes it twice.
    return (event.__pydantic_private__ or {}).get(name)


class RecordedEvent(Event):
    """An event as the store holds it.

    `sequence` is the store's total order, `recorded_at` the store's time, UTC.
    """

    sequence: int
    recorded_at: AwareDatetime


def content_hash(event_type: str, entity_id: str, payload: bytes) -> bytes:
    """BLAKE2b-128 over type, entity and canonical payload, each after its length (4 bytes, big-endian).

    Id and time do not count: a retry has new ones. The lengths keep ("ab", "c") and ("a", "bc") apart.
    """
    kind, entity = event_type.encode(), entity_id.encode()
    return hashlib.blake2b(
        len(kind).to_bytes(4, "big")
        + kind
        + len(entity).to_bytes(4, "big")
        + entity
        + len(payload).to_bytes(4, "big")
        + payload,
        digest_size=16,
    ).digest()


def foreign_event_id(source: str, id: str) -> uuid.UUID:  # noqa: A002 - CloudEvents' own word
    """The id itself where it is a UUID in its usual spelling, else the UUIDv5 of (source, id)."""
    try:
        own = uuid.UUID(id)
    except ValueError:
        own = None
    if own is not None and str(own) == id.lower():
        return own
    return uuid.uuid5(_FOREIGN, f"{len(source)}:{source}{id}")
