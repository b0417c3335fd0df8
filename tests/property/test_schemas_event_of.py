"""`Event.of` assembles what needs no conversion itself: the same event, or the same error, as validation."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock_schemas import Event, EventPayload

TEXT = st.sampled_from(["a", "user-1", "", "x" * 1100, "nul\0", "half \ud800", "Zoë"]) | st.text(max_size=5)
ODD = st.sampled_from([None, 7, b"x", ["a"]])
FIELDS = st.fixed_dictionaries(
    {"entity_id": TEXT},
    optional={
        "actor_type": TEXT | ODD,
        "actor_id": TEXT | ODD,
        "tenant_id": TEXT | ODD,
        "correlation_id": TEXT | ODD,
        "causation_id": TEXT | ODD,
        "idempotency_key": TEXT | ODD,
        "metadata": st.sampled_from([{}, {"tags": ["a"]}, {"tags": "a"}]),
        "event_id": st.uuids(),
        "occurred_at": st.sampled_from([
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone: refused
            "2026-01-01T00:00:00Z",
        ]),
        "unknown": st.just(1),
    },
)  # fmt: skip


class Noted(EventPayload, event_type="noted"):
    text: str
    more: dict[str, list[int]]


class Validated(Event):
    """Not `Event` itself: always validated."""


def outcome(kind: type[Event], payload: Noted, fields: dict[str, Any]) -> Any:
    try:
        made = kind.of(payload, **fields)
    except ValidationError as error:
        return [(fault["loc"], fault["msg"]) for fault in error.errors()]
    seen = {name: getattr(made, name) for name in Event.model_fields}
    own = {"event_id", "occurred_at"} - fields.keys()
    for name in ("correlation_id", "idempotency_key"):
        if seen[name] == str(made.event_id):
            seen[name] = "own id"
    seen = {name: value for name, value in seen.items() if name not in own}
    extra = made.payload_json, made.content_hash, made.encoded_payload, made.typed_payload
    again = Event.model_validate(made.model_dump())
    return list(seen), seen, extra, made.model_fields_set, again.model_dump() == made.model_dump()


@given(
    FIELDS, TEXT, st.dictionaries(st.text(max_size=3), st.lists(st.integers(0, 9), max_size=2), max_size=2)
)
def test_the_same_event_or_the_same_error(fields: dict[str, Any], text: str, more: Any) -> None:
    try:
        payload = Noted(text=text, more=more)
    except ValidationError:  # half of a surrogate pair: pydantic's own to refuse
        return
    try:
        expected = outcome(Validated, payload, fields)
    except ValueError as error:
        expected = type(error)
    try:
        found = outcome(Event, payload, fields)
    except ValueError as error:
        found = type(error)
    assert found == expected
