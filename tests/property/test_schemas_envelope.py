"""Laws of the envelope: what goes in comes out, the two ways of reading agree, and no bytes do any harm."""

import json
import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock_schemas import DecodeError, Event, EventFields, EventPayload
from penstock_schemas.decoder import Decoder
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.registry import InMemoryRegistry
from penstock_schemas.rows import row_of

IDENTIFIERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda text: len(text.encode()) <= 1024
)
JSON_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.builds(
    Event,
    event_type=IDENTIFIERS,
    entity_id=IDENTIFIERS,
    payload=st.dictionaries(JSON_TEXT, JSON, max_size=4),
    event_id=st.uuids(),
    occurred_at=st.datetimes(timezones=st.just(UTC)),
    actor_type=st.none() | IDENTIFIERS,
    actor_id=st.none() | IDENTIFIERS,
    tenant_id=IDENTIFIERS,
    correlation_id=st.none() | IDENTIFIERS,
    causation_id=st.none() | IDENTIFIERS,
    schema_version=st.integers(1, 2**31 - 1),
    idempotency_key=st.none() | IDENTIFIERS,
    metadata=st.dictionaries(JSON_TEXT.filter(lambda key: key != "tags"), JSON, max_size=2),
)


def shuffled(schema: str) -> str:
    """The same envelope with its last field first: a layout that the fast path does not take."""
    parsed = json.loads(schema)
    parsed["fields"].insert(0, parsed["fields"].pop())
    return json.dumps(parsed)


ENCODER = EventEncoder(InMemoryRegistry())
FAST = Decoder()
FAST.add_schema(1, GENERIC_SCHEMA)
GENERAL = Decoder()
# An int and a long look the same on the wire, but the fast path is for our own layout only.
GENERAL.add_schema(1, GENERIC_SCHEMA.replace('"type":"int"', '"type":"long"'))
SHUFFLED = Decoder()
SHUFFLED.add_schema(1, shuffled(GENERIC_SCHEMA))


def reordered(value: bytes, event: Event) -> bytes:
    """The value as a writer of the shuffled layout writes it: metadata, which comes last, first."""
    metadata = EventFields.of(event).metadata
    tail = len(metadata) + (1 if len(metadata) < 64 else 2)
    return value[:5] + value[-tail:] + value[5:-tail]


@given(EVENTS)
def test_what_is_encoded_is_decoded(event: Event) -> None:
    value = ENCODER.encode(event, "t")
    assert FAST.row(value) == GENERAL.row(value) == row_of(EventFields.of(event))
    assert FAST.decode(value) == EventFields.of(event)
    assert GENERAL.decode(value) == EventFields.of(event)
    assert SHUFFLED.decode(reordered(value, event)) == EventFields.of(event)


def outcome(decoder: Decoder, value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except DecodeError as error:
        return error.reason


def row_outcome(decoder: Decoder, value: bytes) -> Any:
    try:
        return decoder.row(value)
    except DecodeError as error:
        return error.reason


class Nested(EventPayload, event_type="nested"):
    text: str
    number: int
    more: dict[str, str]


SHORT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
NULLABLE = st.none() | SHORT | st.text("ab-0\u00e9", min_size=60, max_size=70)
COMMON = st.builds(
    Event,
    event_type=SHORT,
    entity_id=SHORT,
    payload=st.dictionaries(JSON_TEXT, JSON, max_size=2) | st.just({"long": "x" * 9_000}),
    event_id=st.uuids(),
    occurred_at=st.datetimes(timezones=st.just(UTC)),
    actor_type=NULLABLE,
    actor_id=NULLABLE,
    correlation_id=NULLABLE,
    causation_id=NULLABLE,
    schema_version=st.integers(1, 70),
    idempotency_key=NULLABLE,
    metadata=st.sampled_from([{}, {"tags": ["a"]}, {"note": "x" * 300}]),
)
"""Events as most are, so that the reader of rows seldom gives up on them."""
NESTED = st.builds(
    lambda text, number, more, actor: Event.of(
        Nested(text=text, number=number, more=more), entity_id="e", actor_id=actor
    ),
    JSON_TEXT,
    st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(JSON_TEXT, JSON_TEXT, max_size=2),
    NULLABLE,
)


def changed(value: bytes, data: st.DataObject) -> bytes:
    """The value after up to three accidents; with bytes such as lengths and branches are."""
    bad = bytearray(value)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(5, max(5, len(bad) - 1)))
        match data.draw(st.sampled_from(["set", "cut", "insert", "truncate"])):
            case "set":
                new = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 2, 3, 4, 0x7E, 0x80, 0x82]))
                bad[at : at + 1] = bytes([new])
            case "cut":
                del bad[at : at + data.draw(st.integers(1, 4))]
            case "insert":
                bad[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            case "truncate":
                del bad[at:]
    return bytes(bad)


@given(COMMON | NESTED, st.data())
def test_rows_and_events_agree_on_every_value(event: Event, data: st.DataObject) -> None:
    registry = InMemoryRegistry()
    value = changed(EventEncoder(registry).encode(event, "t"), data)
    decoder = Decoder()
    decoder.add_schema(1, registry.schema(1))
    expected = outcome(decoder, value)
    assert row_outcome(decoder, value) == (
        row_of(expected) if isinstance(expected, EventFields) else expected
    )


@given(EVENTS, st.data())
def test_changed_bytes_do_no_harm_and_both_paths_agree(event: Event, data: st.DataObject) -> None:
    value = bytearray(ENCODER.encode(event, "t"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(5, max(5, len(value) - 1)))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                value[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del value[at : at + data.draw(st.integers(1, 4))]
            case "insert":
                value[at:at] = data.draw(st.binary(min_size=1, max_size=3))
    assert outcome(FAST, bytes(value)) == outcome(GENERAL, bytes(value))


@given(st.binary(max_size=400))
def test_made_up_bytes_do_no_harm(tail: bytes) -> None:
    value = b"\0\0\0\0\1" + tail
    assert outcome(FAST, value) == outcome(GENERAL, value)
    assert row_outcome(FAST, value) == row_outcome(GENERAL, value)


@given(st.binary(max_size=12))
def test_any_value_has_a_schema_id_or_an_error(value: bytes) -> None:
    try:
        schema_id = FAST.schema_id(value)
    except DecodeError:
        assert len(value) < 5 or value[0] != 0
    else:
        assert value[:5] == b"\0" + schema_id.to_bytes(4, "big")


@given(st.dictionaries(JSON_TEXT, JSON, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(payload: dict[str, Any], shuffle: random.Random) -> None:
    keys = list(payload)
    shuffle.shuffle(keys)
    first = Event(event_type="t", entity_id="e", payload=payload)
    second = Event(event_type="t", entity_id="e", payload={key: payload[key] for key in keys})
    assert first.content_hash == second.content_hash


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_equal_hashes_mean_equal_contents(one: str, entity: str, other: str, other_entity: str) -> None:
    try:
        first = Event(event_type=one, entity_id=entity)
        second = Event(event_type=other, entity_id=other_entity)
    except ValidationError:
        return
    assert (first.content_hash == second.content_hash) is ((one, entity) == (other, other_entity))


@given(
    st.text() | st.text(st.characters(categories=["Cs", "Ll"]), max_size=5),
    st.sampled_from(["entity_id", "actor_id"]),
)
def test_an_event_takes_exactly_what_postgresql_stores(text: str, field: str) -> None:
    """PostgreSQL's text refuses NUL and what is not UTF-8; our indexes refuse the empty and the long."""
    try:
        storable = 0 < len(text.encode()) <= 1024 and "\0" not in text
    except UnicodeEncodeError:
        storable = False
    try:
        Event(**{"event_type": "t", "entity_id": "e", field: text})
    except ValidationError:
        assert not storable
    else:
        assert storable


def test_years_at_the_edges() -> None:
    for moment in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        event = Event(event_type="t", entity_id="e", occurred_at=moment)
        assert FAST.decode(ENCODER.encode(event, "t")) == EventFields.of(event)
