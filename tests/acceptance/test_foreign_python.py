"""Confluent's own Python serializers, unmodified, on our topic and through our registry."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from fixtures.foreign import (
    BREAKING_SCHEMA,
    LATER_SCHEMA,
    as_foreigner_writes,
    block,
    comparable,
    consume,
    decoded,
    events,
    foreign_events,
    produce,
)
from fixtures.topics import TopicFactory
from penstock_producer import Producer
from penstock_schemas import Event, EventFields
from penstock_schemas.envelope import GENERIC_SCHEMA


@pytest.fixture
def client(registry: str) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry, "timeout": 20}) as client:
        yield client


def _value(topic: str) -> SerializationContext:
    return SerializationContext(topic, MessageField.VALUE)


def _as_record(event: Event) -> dict[str, Any]:
    """What an Avro reader with logical types makes of an event of ours."""
    record = as_foreigner_writes(event)
    payload = event.payload if event.typed_payload else json.dumps(event.payload, sort_keys=True)
    return {
        **record,
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "content_hash": event.content_hash,
        "payload": payload,
        "metadata": event.metadata,
    }


def test_the_deserializer_reads_what_our_producer_wrote(
    kafka: str, topic: TopicFactory, registry: str, client: SchemaRegistryClient
) -> None:
    name, written = topic(), events()
    with Producer(kafka, topic=name, schema_registry_url=registry) as producer:
        for event in written:
            producer.emit(event)
    deserialize = AvroDeserializer(client)
    for event, message in zip(written, consume(kafka, name, len(written)), strict=True):
        record = deserialize(message.value(), _value(name))
        assert record is not None
        assert message.key() == event.entity_id.encode()
        if isinstance(record["payload"], str):
            record["payload"] = json.dumps(json.loads(record["payload"]), sort_keys=True)
        record["metadata"] = json.loads(record["metadata"])
        assert record == _as_record(event)
    assert client.get_versions(f"{name}-value") == [1]
    assert client.get_versions(f"{name}-penstock.events.PaymentEvent") == [1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalize.schemas": True},
        {"auto.register.schemas": False},
        {"auto.register.schemas": False, "use.latest.version": True},
    ],
    ids=["registers", "normalizes", "looks up", "takes the latest"],
)
def test_our_decoder_reads_what_the_serializer_wrote(
    kafka: str, topic: TopicFactory, registry: str, client: SchemaRegistryClient, settings: dict[str, Any]
) -> None:
    name, written = topic(), foreign_events("python")
    if settings.get("auto.register.schemas") is False:
        client.register_schema(f"{name}-value", Schema(GENERIC_SCHEMA))
    pretty = json.dumps(json.loads(GENERIC_SCHEMA), indent=2)
    serialize = AvroSerializer(client, pretty, conf=settings)
    values = [serialize(_as_datetime(event), _value(name)) for event in written]
    assert all(isinstance(value, bytes) for value in values)
    produce(
        kafka, name, [(event.entity_id, value or b"") for event, value in zip(written, values, strict=True)]
    )
    found = decoded(consume(kafka, name, len(written)), registry)
    assert [comparable(fields) for fields in found] == [
        comparable(EventFields.of(event)) for event in written
    ]
    assert client.get_versions(f"{name}-value") == [1]


def _as_datetime(event: Event) -> dict[str, Any]:
    return {**as_foreigner_writes(event), "occurred_at": event.occurred_at}


def test_the_example_in_the_documentation_is_an_event(
    kafka: str, topic: TopicFactory, registry: str, client: SchemaRegistryClient
) -> None:
    name = topic()
    client.register_schema(f"{name}-value", Schema(GENERIC_SCHEMA))
    code = block("python").replace("http://localhost:8081", registry).replace("localhost:9092", kafka)
    exec(code.replace('"events', f'"{name}'), {})
    (fields,) = decoded(consume(kafka, name, 1), registry)
    assert (fields.event_type, fields.entity_id, fields.tenant_id) == ("order.placed", "42", "default")
    assert json.loads(fields.payload) == {"amount": "9.90"}


def test_both_sides_get_one_id_for_the_generic_schema(
    kafka: str, topic: TopicFactory, registry: str, client: SchemaRegistryClient
) -> None:
    name = topic()
    with Producer(kafka, topic=name, schema_registry_url=registry) as producer:
        producer.emit(Event(event_type="tick", entity_id="clock"))
    (ours,) = consume(kafka, name, 1)
    respelt = json.dumps(json.loads(GENERIC_SCHEMA) | {"name": "Event", "namespace": "penstock"}, indent=1)
    theirs = AvroSerializer(client, respelt)(_as_datetime(foreign_events("python")[1]), _value(name))
    assert (ours.value() or b"")[:5] == (theirs or b"-")[:5]


def test_a_foreigner_may_extend_the_schema_but_not_break_it(
    kafka: str, topic: TopicFactory, registry: str, client: SchemaRegistryClient
) -> None:
    name = topic()
    (event, _) = foreign_events("python")
    client.register_schema(f"{name}-value", Schema(GENERIC_SCHEMA))
    record = {**_as_datetime(event), "region": "EU"}
    value = AvroSerializer(client, LATER_SCHEMA)(record, _value(name)) or b""
    produce(kafka, name, [(event.entity_id, value)])
    (fields,) = decoded(consume(kafka, name, 1), registry)
    assert comparable(fields) == comparable(EventFields.of(event))
    assert client.get_versions(f"{name}-value") == [1, 2]
    old = AvroDeserializer(client, GENERIC_SCHEMA)(value, _value(name))
    assert old is not None
    assert "region" not in old
    assert old["event_id"] == UUID(str(event.event_id))
    with pytest.raises(SchemaRegistryError) as refused:
        AvroSerializer(client, BREAKING_SCHEMA)(record, _value(name))
    assert (refused.value.http_status_code, refused.value.error_code) == (409, 409)
    assert client.get_versions(f"{name}-value") == [1, 2]


def test_everything_that_the_client_can_ask_for(client: SchemaRegistryClient) -> None:
    with pytest.raises(SchemaRegistryError) as unknown:
        client.get_latest_version("s")
    assert unknown.value.error_code == 40401
    schema_id = client.register_schema("s", Schema(GENERIC_SCHEMA))
    client.clear_caches()
    assert client.get_schema(schema_id).schema_str == GENERIC_SCHEMA
    assert client.lookup_schema("s", Schema(GENERIC_SCHEMA)).version == 1
    assert client.get_latest_version("s").schema_id == schema_id
    assert client.get_version("s", 1).schema_id == schema_id
    assert client.get_subjects() == ["s"]
    assert client.get_subjects_by_schema_id(schema_id) == ["s"]
    assert [(use.subject, use.version) for use in client.get_schema_versions(schema_id)] == [("s", 1)]
    assert client.get_schema_types() == ["AVRO"]
    assert client.test_compatibility("s", Schema(LATER_SCHEMA)) is True
    assert client.test_compatibility("s", Schema(BREAKING_SCHEMA)) is False
    assert client.test_compatibility_all_versions("s", Schema(BREAKING_SCHEMA)) is False
    assert client.get_compatibility() == "BACKWARD"
    assert client.set_compatibility("s", "full") == {"compatibility": "FULL"}
    assert client.get_compatibility("s") == "FULL"
