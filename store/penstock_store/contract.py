"""What every backend's reader offers, in backend-neutral words: options, pages and the reading half of the
store.

The writing half (`append`, `append_batch` with expected versions) and snapshots come with `EventStore` in
`penstock_store.store_contract`, so that a replica, or a role that may only read, is a complete implementation
of what it can do.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, Protocol, Self, runtime_checkable
from uuid import UUID

from penstock_schemas import RecordedEvent
from penstock_schemas._text import canonical_json
from penstock_store._cursor import OrderBy, Position, decode_cursor
from penstock_store.read_errors import InvalidQuery

__all__ = ["DEFAULT_PAGE", "MAX_OFFSET", "MAX_PAGE", "EventReader", "OrderBy", "Page", "QueryOptions"]

DEFAULT_PAGE: Final = 100  # events in a page when no limit is given
MAX_PAGE: Final = 10_000  # about 10 MB at 1 KB an event: a page is held in memory, a stream is not
MAX_OFFSET: Final = 1_000_000  # an offset is read and thrown away: cursors cost nothing
_MAX_VALUES: Final = 1_000  # event types or tags in one query
_MAX_PAYLOAD: Final = 65_536  # bytes of JSON to contain
_BIGINT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """Which events, in which order, how many. All filters must hold; one that is not given holds for every
    event.

    Raises `InvalidQuery` when made, with the field and what to write instead.
    """

    since: datetime | None = None  # occurred_at >= since
    until: datetime | None = None  # occurred_at < until
    recorded_since: datetime | None = None  # recorded_at >=
    recorded_until: datetime | None = None  # recorded_at <
    after_sequence: int | None = None  # sequence >
    up_to_sequence: int | None = None  # sequence <=
    event_types: Sequence[str] = ()  # any of them
    actor_id: str | None = None
    correlation_id: str | None = None
    entity_id: str | None = None
    tenant_id: str | None = None
    tags: Sequence[str] = ()  # all of them, in metadata["tags"]
    payload: Mapping[str, Any] = field(
        default_factory=dict
    )  # JSON that the payload contains, as jsonb's @> says
    limit: int | None = None  # None: DEFAULT_PAGE for a page, everything for a stream
    offset: int = 0  # events to skip; excludes a cursor
    cursor: str | None = None  # Page.next_cursor of the same query
    order_by: OrderBy = OrderBy.SEQUENCE
    descending: bool = False
    skip_corrupted: bool = False  # leave out what cannot be trusted, and report it; else CorruptedEvents

    def __post_init__(self) -> None:
        for name in ("since", "until", "recorded_since", "recorded_until"):
            self._set(name, _instant(name, getattr(self, name)))
        for name in ("event_types", "tags"):
            self._set(name, _texts(name, getattr(self, name)))
        for name in ("actor_id", "correlation_id", "entity_id", "tenant_id"):
            if getattr(self, name) is not None:
                _text(name, getattr(self, name))
        for name in ("after_sequence", "up_to_sequence"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least=-_BIGINT, most=_BIGINT)
        if self.limit is not None:
            _whole("limit", self.limit, least=1, most=_BIGINT)
        _whole("offset", self.offset, least=0, most=MAX_OFFSET)
        self._set("payload", _containable(self.payload))
        self._set("order_by", _order(self.order_by))
        if self.cursor is not None and self.offset:
            raise InvalidQuery(
                "cursor and offset exclude each other: a cursor already says where the page starts."
            )
        self.position()  # a wrong cursor is refused here, not at the server

    def position(self) -> Position | None:
        """Where the cursor says that the page starts; None: at the beginning."""
        if self.cursor is None:
            return None
        return decode_cursor(self.cursor, self.order_by, descending=self.descending)

    def replace(self, **changes: Any) -> Self:
        """The same options with some changed, validated again."""
        return type(self)(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **changes})

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events in order, and whether more follow."""

    events: tuple[RecordedEvent, ...]
    has_more: bool  # when the page was read
    next_cursor: (
        str | None
    )  # after the last event, also on the last page: events that come later follow it. None: empty


@runtime_checkable
class EventReader(Protocol):
    """The reading half of an event store. Every method may raise `StoreError`; reads change nothing.

    Reads that ascend by sequence never skip: an event that is not there yet can only get a higher sequence
    than those returned. In other orders an event may arrive before one that was already read.
    """

    async def initialize(self) -> None:
        """Connect and check that the store can be read. Safe to call again."""
        ...

    async def close(self) -> None:
        """Give everything back within a deadline. Safe to call again."""
        ...

    async def get_events(self, options: QueryOptions = ...) -> Page:
        """One page: at most `options.limit` events (`DEFAULT_PAGE` where none is given)."""
        ...

    async def get_event(self, event_id: UUID) -> RecordedEvent | None:
        """The event with this id; None where there is none."""
        ...

    async def get_events_by_correlation(self, correlation_id: str) -> list[RecordedEvent]:
        """All events of one correlation, by occurred_at, then sequence."""
        ...

    def stream(self, options: QueryOptions = ...) -> AsyncGenerator[RecordedEvent, None]:
        """Every matching event that is there now, in constant memory; ends."""
        ...

    def stream_since(
        self, start: int | datetime, options: QueryOptions = ...
    ) -> AsyncGenerator[RecordedEvent, None]:
        """After sequence `start`, by sequence; or, where it is a time, those that occurred since, by time;
        ends. Where `options` begin later, that holds.
        """
        ...

    def subscribe(self, after: int = 0, options: QueryOptions = ...) -> AsyncGenerator[RecordedEvent, None]:
        """By sequence: every matching event after sequence `after`, then those to come; goes on until
        closed.
        """
        ...


def exactly(name: str, value: object) -> str:
    """A filter's text that has to be given: None would choose every event. Raises `InvalidQuery`."""
    return _text(name, value)


def an_id(event_id: object) -> UUID:
    """Raises `InvalidQuery`."""
    if not isinstance(event_id, UUID):
        raise InvalidQuery(f"event_id must be a uuid.UUID, such as event.event_id; got {event_id!r}.")
    return event_id


def beginning(after: object, options: QueryOptions, name: str = "after") -> int:
    """After which sequence a read begins: `after`, or later where `options` say so. Raises `InvalidQuery`."""
    position = _whole(name, after, least=-_BIGINT, most=_BIGINT)
    return position if options.after_sequence is None else max(position, options.after_sequence)


def beginning_time(start: datetime, options: QueryOptions) -> datetime:
    """Since when a read begins: `start`, or later where `options` say so. Raises `InvalidQuery`."""
    at = _instant("start", start)
    assert at is not None  # noqa: S101  None for None only
    return at if options.since is None else max(at, options.since)


def _instant(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidQuery(
            f"{name} must be a datetime with a time zone, such as datetime.now(UTC); got {value!r}."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidQuery(f"{name} must be within the years 1 to 9999 in UTC; got {value!r}.") from None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not _storable(value):
        raise InvalidQuery(
            f"{name} must be text without NUL or lone surrogates (no event has such); got {value!r}."
        )
    return value


def _storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _texts(name: str, values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence | set | frozenset):
        raise InvalidQuery(f"{name} must be a list of texts, such as ['order.placed']; got {values!r}.")
    if len(values) > _MAX_VALUES:
        raise InvalidQuery(
            f"{name} holds {len(values):,} values; at most {_MAX_VALUES:,} fit one query. Split it."
        )
    return tuple(sorted({_text(name, value) for value in values}))


def _whole(name: str, value: object, *, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidQuery(f"{name} must be a whole number from {least:,} to {most:,}; got {value!r}.")
    return value


def _containable(payload: object) -> dict[str, Any]:
    """A copy, so that the options stay frozen; JSON that PostgreSQL takes, its numbers spelt as stored."""
    if isinstance(payload, Mapping):
        with suppress(TypeError, ValueError, RecursionError):  # no JSON, NaN, NUL, lone surrogates, endless
            text = canonical_json(dict(payload))
            if len(text) <= _MAX_PAYLOAD:
                copy: dict[str, Any] = json.loads(text)
                return copy
    raise InvalidQuery(
        f"payload must be a JSON object of at most {_MAX_PAYLOAD:,} bytes, without NUL or NaN,"
        " such as {'state': 'paid'}."
    )


def _order(value: object) -> OrderBy:
    try:
        return OrderBy(str(value))
    except ValueError:
        choices = ", ".join(repr(order.value) for order in OrderBy)
        raise InvalidQuery(f"order_by must be one of {choices}; got {value!r}.") from None
