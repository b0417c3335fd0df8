"""What a producer can be told, and what it says when told wrong."""

from typing import Any

import pytest

from penstock_producer import InvalidSettings, Producer, ProducerSettings
from penstock_producer.testing import InMemoryProducer
from penstock_schemas.registry import InMemoryRegistry


def settings(**options: Any) -> ProducerSettings:
    return ProducerSettings(**{"bootstrap_servers": "broker:9092", "topic": "events"} | options)


def test_the_fixed_settings_reach_librdkafka_whatever_passes_through() -> None:
    config = settings(config={"sasl.username": "u", "linger.ms": 50, "acks": -1}).librdkafka()
    assert config["enable.idempotence"] is True
    assert config["acks"] == "all"
    assert config["partitioner"] == "murmur2_random"
    assert config["bootstrap.servers"] == "broker:9092"
    assert (config["sasl.username"], config["linger.ms"]) == ("u", 50)


def test_units_are_translated() -> None:
    config = settings(
        linger=0.25, buffer_bytes=10 * 1024 * 1024, delivery_timeout=1.5, max_event_bytes=5_000
    ).librdkafka()
    assert config["linger.ms"] == 250
    assert config["queue.buffering.max.kbytes"] == 10 * 1024
    assert config["delivery.timeout.ms"] == 1_500
    assert config["message.max.bytes"] == 5_000


@pytest.mark.parametrize(
    "config",
    [
        {"acks": "all"},
        {"acks": -1},
        {"request.required.acks": "-1"},
        {"enable.idempotence": "true"},
        {"partitioner": "murmur2_random"},
    ],
)
def test_saying_what_is_fixed_anyway_is_no_fault(config: dict[str, Any]) -> None:
    assert "request.required.acks" not in settings(config=config).librdkafka()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bootstrap_servers": ""}, "bootstrap_servers is empty"),
        ({"topic": ""}, "topic is empty"),
        ({"on_full": "drop"}, "on_full must be"),
        ({"linger": -1}, "linger must be at least 0"),
        ({"linger": float("nan")}, "linger must be at least 0"),
        ({"buffer_events": 0}, "buffer_events must be at least 1"),
        ({"delivery_timeout": 0.001, "linger": 0.5}, "longer than linger"),
        ({"max_event_bytes": 10**9}, "buffer_bytes must hold"),
        ({"config": {"bootstrap.servers": "x"}}, "must not hold bootstrap.servers"),
        ({"config": {"transactional.id": "x"}}, "must not hold transactional.id"),
        ({"config": {"delivery.report.only.error": True}}, "delivery.report.only.error"),
        ({"config": {"default.topic.config": "x"}}, "default.topic.config"),
        ({"config": {"dr_cb": "x"}}, "must not hold dr_cb"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        settings(**options)


def test_one_registry_is_needed_and_only_one() -> None:
    for registries in ({}, {"registry": InMemoryRegistry(), "schema_registry_url": "http://localhost"}):
        with pytest.raises(InvalidSettings, match="either registry or schema_registry_url"):
            Producer("broker:9092", topic="events", **registries)  # type: ignore[arg-type]


def test_what_librdkafka_refuses_is_a_setting_at_fault_and_no_secret_is_told() -> None:
    password = "geheim"
    config = {"sasl.password": password, "no.such.property": 1}
    producer = Producer("127.0.0.1:1", topic="events", registry=InMemoryRegistry(), config=config)
    assert password not in repr(producer.settings)
    with pytest.raises(InvalidSettings, match=r"no\.such\.property") as refused, producer:
        pass
    assert password not in str(refused.value)


def test_the_double_checks_the_same_settings() -> None:
    with pytest.raises(InvalidSettings, match="on_full"):
        InMemoryProducer(on_full="drop")  # type: ignore[arg-type]
