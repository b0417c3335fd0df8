"""The event: what it takes, what it fills in, what it refuses."""

import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from penstock_schemas import Event, EventFields, EventPayload, RecordedEvent, foreign_event_id
from penstock_schemas.event import content_hash


def make(**fields: Any) -> Event:
    return Event(**{"event_type": "parcel.collected", "entity_id": "PX-1"} | fields)


class Weighed(EventPayload, event_type="parcel.weighed", version=3):
    grams: int


def test_defaults() -> None:
    before = datetime.now(UTC)
    event = make()
    assert event.event_id.version == 7
    assert before <= event.occurred_at <= datetime.now(UTC)
    assert event.correlation_id == event.idempotency_key == str(event.event_id)
    assert (event.tenant_id, event.schema_version, event.payload, event.metadata) == ("default", 1, {}, {})
    assert event.actor_type is event.actor_id is event.causation_id is None


def test_new_ids_are_ordered_by_time() -> None:
    ids = [make().event_id for _ in range(200)]
    assert [one.int >> 80 for one in ids] == sorted(one.int >> 80 for one in ids)
    assert len(set(ids)) == 200


def test_new_ids_do_not_run_ahead_of_the_clock() -> None:
    newest = max(make().event_id.int >> 80 for _ in range(2_000))
    assert newest <= time.time_ns() // 1_000_000


def test_a_forked_child_makes_ids_of_its_own() -> None:
    """The random half: the clock may stand still between two processes."""
    code = (
        "import os; from penstock_schemas._ids import new_id; new_id(); pid = os.fork();"
        "os.write(1, b'%d ' % (new_id().int & (1 << 62) - 1)); pid and os.waitpid(pid, 0)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60
    )
    assert len(set(said.stdout.split())) == 2


def test_null_correlation_and_key_mean_the_event_id() -> None:
    event = make(correlation_id=None, idempotency_key=None)
    assert event.correlation_id == event.idempotency_key == str(event.event_id)


def test_time_is_kept_in_utc() -> None:
    event = make(occurred_at=datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))))
    assert event.occurred_at == datetime(2026, 2, 28, 23, 30, tzinfo=UTC)
    assert event.occurred_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"entity_id": ""}, "entity_id", "is empty"),
        ({"entity_id": "x" * 1025}, "entity_id", "1025 bytes"),
        ({"entity_id": "é" * 513}, "entity_id", "1026 bytes"),
        ({"tenant_id": "a\0b"}, "tenant_id", "NUL"),
        ({"actor_id": "\ud800"}, "actor_id", "lone surrogate"),
        ({"idempotency_key": ""}, "idempotency_key", "is empty"),
        ({"occurred_at": datetime(2026, 1, 1)}, "occurred_at", "timezone"),  # noqa: DTZ001 - the fault under test
        ({"occurred_at": "0001-01-01T00:00:00+05:00"}, "occurred_at", "years 1 to 9999"),
        ({"schema_version": 0}, "schema_version", "greater than or equal to 1"),
        ({"schema_version": 2**31}, "schema_version", "less than or equal"),
        ({"payload": {"a": [1, float("nan")]}}, "payload", "a[1] is nan"),
        ({"payload": {"a": float("-inf")}}, "payload", "a is -inf"),
        ({"payload": {"a": {"b": "x\0"}}}, "payload", "a.b holds a NUL"),
        ({"payload": {"a": {"k\0": 1}}}, "payload", "a key of a holds a NUL"),
        ({"payload": {"\udfff": 1}}, "payload", "lone surrogate"),
        ({"payload": {"a": object()}}, "payload", "valid JSON"),
        ({"metadata": {"tags": "urgent"}}, "metadata", "list of strings"),
        ({"metadata": {"tags": ["urgent", 1]}}, "metadata", "list of strings"),
        ({"colour": "red"}, "colour", "Extra inputs"),
    ],
)
def test_refuses(fields: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(**fields)
    errors = caught.value.errors()
    assert len(errors) == 1 or where == "payload"
    assert str(errors[0]["loc"][0]) == where
    assert what in str(caught.value)


def test_a_payload_is_not_nested_without_bound() -> None:
    deep: dict[str, Any] = {}
    for _ in range(201):
        deep = {"a": deep}
    with pytest.raises(ValidationError, match="nested deeper than 200"):
        make(payload=deep)


def test_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make().entity_id = "other"  # type: ignore[misc]


def test_longest_identifier_passes() -> None:
    assert len(make(entity_id="é" * 512).entity_id) == 512


def test_content_hash_is_fixed_for_ever() -> None:
    """Producers of different releases, and foreign ones, have to agree: the value may never change."""
    hashed = content_hash("order.placed", "42", '{"amount":1.5,"note":"é"}'.encode())
    assert hashed.hex() == "4f3ab2eaa149c97c95e8dcf5f3c8c95f"
    assert make(payload={"note": "é", "amount": 1.5}).payload_json == '{"amount":1.5,"note":"é"}'.encode()


def test_content_hash_ignores_id_and_time_and_key_order() -> None:
    first = make(payload={"a": 1, "b": [2]})
    again = make(payload={"b": [2], "a": 1}, tenant_id="t", actor_id="x", idempotency_key="k")
    assert first.content_hash == again.content_hash
    assert len(first.content_hash) == 16


@pytest.mark.parametrize(
    "other",
    [{"entity_id": "PX-2"}, {"event_type": "parcel.collectedP", "entity_id": "X-1"}, {"payload": {"a": 1.0}}],
)
def test_content_hash_tells_contents_apart(other: dict[str, Any]) -> None:
    assert make(payload={"a": 1}).content_hash != make(**{"payload": {"a": 1}} | other).content_hash


def test_integers_of_any_size_stay_exact() -> None:
    event = make(payload={"n": 2**200})
    assert str(2**200).encode() in event.payload_json


def test_tags() -> None:
    assert make(metadata={"tags": ["urgent", "eu"]}).tags == ("urgent", "eu")
    assert make().tags == ()


def test_typed_event() -> None:
    event = Event.of(Weighed(grams=1240), entity_id="PX-1", actor_id="scale-2")
    assert (event.event_type, event.schema_version, event.payload) == ("parcel.weighed", 3, {"grams": 1240})
    assert event.typed_payload == Weighed(grams=1240)
    assert event.content_hash == make(event_type="parcel.weighed", payload={"grams": 1240}).content_hash


def test_copy_validates() -> None:
    event = Event.of(Weighed(grams=1), entity_id="PX-1")
    assert event.model_copy(update={"tenant_id": "t"}).typed_payload == Weighed(grams=1)
    changed = event.model_copy(update={"payload": {"grams": 2}})
    assert changed.typed_payload is changed.encoded_payload is None
    assert changed.payload_json == b'{"grams":2}'
    with pytest.raises(ValidationError, match="is empty"):
        event.model_copy(update={"tenant_id": ""})


@pytest.mark.parametrize(
    "event",
    [make(payload={"grams": 1}), Event.of(Weighed(grams=1), entity_id="PX-1")],
    ids=["generic", "typed"],
)
def test_a_copy_has_its_own_text_and_hash(event: Event) -> None:
    before = event.payload_json, event.content_hash
    changed = event.model_copy(update={"payload": {"grams": 2}})
    assert changed.payload_json == b'{"grams":2}'
    assert changed.content_hash == content_hash(event.event_type, "PX-1", b'{"grams":2}') != before[1]
    deep = event.model_copy(deep=True)
    deep.payload["grams"] = 3
    assert deep.payload_json == b'{"grams":3}'
    assert (event.payload_json, event.content_hash) == before


@pytest.mark.parametrize("update", [{"event_type": "parcel.other"}, {"schema_version": 4}])
def test_a_copy_of_another_type_or_version_is_no_longer_typed(update: dict[str, Any]) -> None:
    """Its payload's schema is registered for one type and version, and says so."""
    changed = Event.of(Weighed(grams=1), entity_id="PX-1").model_copy(update=update)
    assert changed.typed_payload is changed.encoded_payload is None
    assert changed.payload == {"grams": 1}


def test_payload_class_needs_its_type() -> None:
    with pytest.raises(TypeError, match="say its event type"):

        class Nameless(EventPayload):
            pass


@pytest.mark.parametrize("arguments", [{"version": 0}, {"avro_namespace": "no-name"}])
def test_payload_class_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"version is 0|no Avro namespace"):
        type("Bad", (EventPayload,), {"__module__": __name__}, event_type="a", **arguments)


def test_foreign_ids() -> None:
    own = uuid.uuid4()
    assert foreign_event_id("/any", str(own)) == foreign_event_id("/other", str(own).upper()) == own
    first = foreign_event_id("/loans", "173688-0")
    assert first == foreign_event_id("/loans", "173688-0")
    assert first.version == 5
    assert str(first) == "1be98b25-c7a1-5987-88f1-fc0383cf7829"
    different = {foreign_event_id("/loans", "173688-1"), foreign_event_id("/loans1", "73688-0"), first}
    assert len(different) == 3
    assert foreign_event_id("/s", own.hex).version == 5  # not the usual spelling: an id like any other


def test_fields_of_an_event() -> None:
    event = make(occurred_at="1969-12-31T23:59:59.999999Z", metadata={"b": 1, "a": 2})
    fields = EventFields.of(event)
    assert fields.occurred_at == -1
    assert fields.event_id == event.event_id.bytes
    assert fields.metadata == b'{"a":2,"b":1}'
    assert fields._fields[:3] == ("event_id", "event_type", "occurred_at")


def test_recorded_event_is_an_event() -> None:
    event = make(payload={"a": 1})
    recorded = RecordedEvent(**dict(event), sequence=7, recorded_at=datetime.now(UTC))
    assert recorded.content_hash == event.content_hash
