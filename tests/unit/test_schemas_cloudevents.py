"""CloudEvents 1.0 to events."""

import gzip
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock_schemas import InvalidEvent
from penstock_schemas.cloudevents import event_from_cloudevent
from penstock_schemas.event import foreign_event_id

GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "20417-3",
    "source": "/depots/kiel",
    "type": "parcel.collected",
    "subject": "PX-20417",
    "time": "2026-03-02T10:02:11.250+02:00",
    "datacontenttype": "application/json",
    "correlationid": "shipment-88",
    "causationid": "20417-2",
    "actorid": "d-4",
    "actortype": "driver",
    "tenantid": "north",
    "schemaversion": 2,
    "data": {"depot": "KI-2"},
}


def changed(**attributes: Any) -> dict[str, Any]:
    """The good event with attributes changed; None takes one out."""
    return {name: value for name, value in (GOOD | attributes).items() if value is not None}


def test_every_attribute_has_its_place() -> None:
    event = event_from_cloudevent(GOOD)
    assert event.model_dump() == {
        "event_type": "parcel.collected",
        "entity_id": "PX-20417",
        "payload": {"depot": "KI-2"},
        "event_id": foreign_event_id("/depots/kiel", "20417-3"),
        "occurred_at": datetime(2026, 3, 2, 8, 2, 11, 250_000, tzinfo=UTC),
        "actor_type": "driver",
        "actor_id": "d-4",
        "tenant_id": "north",
        "correlation_id": "shipment-88",
        "causation_id": "20417-2",
        "schema_version": 2,
        "idempotency_key": "/depots/kiel 20417-3",
        "metadata": {"cloudevents": {"id": "20417-3", "source": "/depots/kiel"}},
    }


def test_the_same_cloudevent_is_the_same_event() -> None:
    first, second = event_from_cloudevent(GOOD), event_from_cloudevent(dict(reversed(GOOD.items())))
    assert first == second
    assert first.content_hash == second.content_hash


def test_a_uuid_stays_itself() -> None:
    own = uuid.uuid4()
    assert event_from_cloudevent(changed(id=str(own))).event_id == own


def test_without_options() -> None:
    bare = {name: GOOD[name] for name in ("specversion", "id", "source", "type")}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    event = event_from_cloudevent(bare, now=lambda: moment)
    assert (event.entity_id, event.occurred_at, event.payload) == ("/depots/kiel", moment, {})
    assert (event.actor_id, event.tenant_id, event.correlation_id) == (None, "default", str(event.event_id))


def test_what_has_no_field_is_kept() -> None:
    event = event_from_cloudevent(changed(traceparent="00-ab-cd-01", partitionkey="7", sampled=True))
    assert event.metadata["cloudevents"] == {
        "id": "20417-3",
        "source": "/depots/kiel",
        "traceparent": "00-ab-cd-01",
        "partitionkey": "7",
        "sampled": True,
    }


@pytest.mark.parametrize(
    ("attributes", "payload"),
    [
        ({"data": [1, 2]}, {"data": [1, 2]}),
        ({"data": "text", "datacontenttype": "text/plain"}, {"data": "text"}),
        ({"data": {"a": 1}, "datacontenttype": "application/vnd.x+json; charset=utf-8"}, {"a": 1}),
        ({"data": None, "data_base64": "AAE="}, {"data_base64": "AAE="}),
        ({"data": None}, {}),
    ],
)
def test_payload(attributes: dict[str, Any], payload: dict[str, Any]) -> None:
    assert event_from_cloudevent(changed(**attributes)).payload == payload


def test_digits_beyond_the_microsecond_are_cut() -> None:
    event = event_from_cloudevent(changed(time="2026-03-02T10:02:11.1234567899Z"))
    assert event.occurred_at.microsecond == 123_456


def test_a_key_of_its_own() -> None:
    assert event_from_cloudevent(changed(idempotencykey="k-1")).idempotency_key == "k-1"


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 1024}, "id"),
        ({"source": None}, "source"),
        ({"source": "two words"}, "source"),
        ({"type": None}, "type"),
        ({"type": "a\0b"}, "type"),
        ({"type": "\ud800"}, "type"),
        ({"type": "t" * 1025}, "type"),
        ({"subject": ""}, "subject"),
        ({"subject": ["a"]}, "subject"),
        ({"subject": "s" * 1025}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-03-02T10:02:11"}, "time"),
        ({"time": "2026-02-30T10:02:11Z"}, "time"),
        ({"time": 1_700_000_000}, "time"),
        ({"time": "0001-01-01T00:00:00+01:00"}, "time"),
        ({"actorid": ""}, "actorid"),
        ({"actorid": True}, "actorid"),
        ({"tenantid": "n\0"}, "tenantid"),
        ({"correlationid": {}}, "correlationid"),
        ({"causationid": 1.5}, "causationid"),
        ({"idempotencykey": "k" * 1025}, "idempotencykey"),
        ({"schemaversion": 0}, "schemaversion"),
        ({"schemaversion": "two"}, "schemaversion"),
        ({"data": {"a": "\0"}}, "data"),
        ({"data": {"a\0": 1}}, "data"),
        ({"data": {"a": float("nan")}}, "data"),
        ({"data": {"a": "\udc00"}}, "data"),
        ({"data_base64": "AAE="}, "data_base64"),
        ({"data": None, "data_base64": 1}, "data_base64"),
        ({"datacontenttype": 1}, "datacontenttype"),
        ({"TraceParent": "x"}, "TraceParent"),
        ({"nested": {"a": 1}}, "nested"),
    ],
)
def test_bad_input_names_its_field(attributes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        event_from_cloudevent(changed(**attributes))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize("value", [[], "text", 1, None])
def test_not_an_object(value: Any) -> None:
    with pytest.raises(InvalidEvent, match="not an object"):
        event_from_cloudevent(value)


def test_whole_numbers_are_text() -> None:
    assert event_from_cloudevent(changed(correlationid=173688)).correlation_id == "173688"


def test_a_real_log() -> None:
    """The first thousand events of the real log beside the project, or of nothing but the good event where it
    is absent.
    """
    log = Path(__file__).parents[3] / "shared/data/loan-applications-2012.jsonl.gz"
    lines = gzip.decompress(log.read_bytes()).splitlines() if log.exists() else [json.dumps(GOOD).encode()]
    for line in lines[:1000]:
        cloudevent = json.loads(line)
        event = event_from_cloudevent(cloudevent)
        assert event.entity_id == cloudevent["subject"]
        assert event.actor_id == cloudevent.get("actorid")
        assert event.payload == cloudevent["data"]
