"""The encoder at the edges of its shortcuts: lengths, versions and times, read back by fastavro."""

import io
import json
from datetime import UTC, datetime, timedelta

import fastavro
import pytest

from penstock_schemas import Event
from penstock_schemas._kept import Kept
from penstock_schemas.encoder import encode_as
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.fields import microseconds

PLAIN = fastavro.parse_schema(
    json.loads(
        GENERIC_SCHEMA.replace('{"type":"long","logicalType":"timestamp-micros"}', '"long"').replace(
            '{"type":"string","logicalType":"uuid"}', '"string"'
        )
    )
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(event: Event) -> dict[str, object]:
    raw = io.BytesIO(encode_as(event, None))
    record = fastavro.schemaless_reader(raw, PLAIN, None)
    assert raw.read() == b""
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1_023, 1_024])
def test_texts_of_every_length_an_identifier_may_have(size: int) -> None:
    text = "x" * size
    record = read(
        Event(event_type=text, entity_id=text, actor_id=text, causation_id=text, idempotency_key=text)
    )
    for name in ("event_type", "entity_id", "actor_id", "causation_id", "idempotency_key"):
        assert record[name] == text


@pytest.mark.parametrize("size", [0, 50, 2_030, 2_040, 2_047, 2_048, 2_049, 8_200, 1_100_000])
def test_payloads_and_metadata_around_the_table_of_lengths(size: int) -> None:
    event = Event(event_type="t", entity_id="e", payload={"x": "y" * size}, metadata={"m": "ü" * (size // 2)})
    record = read(event)
    assert record["payload"] == event.payload_json.decode()
    assert json.loads(str(record["metadata"])) == event.metadata


@pytest.mark.parametrize("version", [1, 63, 64, 2_047, 2_048, 2**31 - 1])
def test_versions(version: int) -> None:
    assert read(Event(event_type="t", entity_id="e", schema_version=version))["schema_version"] == version


@pytest.mark.parametrize(
    "at",
    [
        datetime.min.replace(tzinfo=UTC),
        EPOCH - timedelta(microseconds=1),
        EPOCH,
        EPOCH + timedelta(microseconds=8_191),
        EPOCH + timedelta(microseconds=8_192),
        EPOCH + timedelta(microseconds=(1 << 48) - 1),
        EPOCH + timedelta(microseconds=1 << 48),
        datetime(2026, 11, 21, 3, 4, 5, 678_901, UTC),
        EPOCH + timedelta(microseconds=(1 << 55) - 1),
        EPOCH + timedelta(microseconds=1 << 55),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_times_inside_and_outside_of_eight_bytes(at: datetime) -> None:
    assert read(Event(event_type="t", entity_id="e", occurred_at=at))["occurred_at"] == microseconds(at)


@pytest.mark.parametrize("version", [1, 2_047, 2_048])
@pytest.mark.parametrize("cause", [None, "c" * 70])
@pytest.mark.parametrize("key", [None, "k" * 70])
@pytest.mark.parametrize("correlation", [None, "e"])
def test_what_is_usual_beside_what_is_not(
    version: int, cause: str | None, key: str | None, correlation: str | None
) -> None:
    event = Event(
        event_type="t",
        entity_id="e",
        schema_version=version,
        causation_id=cause,
        idempotency_key=key,  # type: ignore[arg-type]
        correlation_id=correlation,  # type: ignore[arg-type]
    )
    record = read(event)
    assert record["event_id"] == str(event.event_id)
    assert record["content_hash"] == event.content_hash
    found = [record[name] for name in ("schema_version", "causation_id", "idempotency_key", "correlation_id")]
    assert found == [version, cause, key, correlation]


def test_what_is_kept_is_bounded_and_made_anew() -> None:
    made: list[int] = []

    def make(value: int) -> int:
        made.append(value)
        return -value

    kept = Kept(make, limit=2)
    assert [kept[value] for value in (1, 1, 2, 3, 3, 1)] == [-1, -1, -2, -3, -3, -1]
    assert made == [1, 2, 3, 1]
    assert len(kept) == 2
