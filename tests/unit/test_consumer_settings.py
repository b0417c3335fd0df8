"""What a worker's settings refuse, and what librdkafka is told."""

import logging
from typing import Any

import pytest

from penstock_consumer._kafka_config import client_config, consumer_config, dead_letter_config
from penstock_consumer.interfaces import TopicPartition
from penstock_consumer.settings import BatchLimits, WorkerSettings


def settings(**changes: Any) -> WorkerSettings:
    values: dict[str, Any] = {"bootstrap_servers": "b:9092", "topics": ("orders",), "group_id": "g"}
    return WorkerSettings(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"topics": ()}, "topics"),
        ({"topics": ("a", "a")}, "twice"),
        ({"kafka": {"enable.auto.commit": True}}, "enable.auto.commit"),
        ({"kafka": {"auto.offset.reset": "earliest"}}, "auto.offset.reset"),
        ({"kafka": {"partition.assignment.strategy": "range"}}, "cooperative-sticky"),
        ({"accept_loss": frozenset({"orders"})}, "topic:partition"),
        ({"dead_letter_share": 0.0}, "dead_letter_share"),
        ({"drain": 0}, "positive"),
    ],
)
def test_what_cannot_work_is_refused_with_the_setting_named(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        settings(**changes)


@pytest.mark.parametrize("name", ["a b", "", "..", "x" * 250, "ä"])
def test_a_name_that_no_topic_can_have_is_refused_and_not_waited_for(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a topic"):
        settings(topics=("orders", name))


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="linger"):
        BatchLimits(linger=2.0, age=1.0)
    with pytest.raises(ValueError, match="at least 1"):
        BatchLimits(records=0)


def test_the_client_keeps_no_positions_of_its_own() -> None:
    config = consumer_config(settings())
    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False
    assert config["auto.offset.reset"] == "error"


def test_kip_848_takes_neither_strategy_nor_session_timeout() -> None:
    config = consumer_config(settings(kafka={"group.protocol": "consumer"}))
    assert "session.timeout.ms" not in config
    assert "partition.assignment.strategy" not in config


def test_security_settings_reach_every_client_and_no_representation() -> None:
    made = settings(kafka={"sasl.password": "hunter2", "fetch.min.bytes": 1})
    for config in (consumer_config(made), client_config(made), dead_letter_config(made, 5)):
        assert config["sasl.password"] == "hunter2"
    assert "fetch.min.bytes" not in client_config(made)
    assert "hunter2" not in repr(made)


def test_librdkafka_logs_where_the_application_logs() -> None:
    consumer = consumer_config(settings())["logger"]
    assert isinstance(consumer, logging.Logger)
    assert client_config(settings())["log_level"] == 0, (
        "nobody polls an admin client: its lines would pile up"
    )


def test_dead_letters_are_acknowledged_by_all_replicas_once() -> None:
    config = dead_letter_config(settings(kafka={"acks": "1", "enable.idempotence": False}), 5)
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True


def test_a_loss_is_accepted_for_one_partition_or_for_all() -> None:
    one = settings(accept_loss=frozenset({"orders:3"}))
    assert one.accepts_loss(TopicPartition("orders", 3))
    assert not one.accepts_loss(TopicPartition("orders", 4))
    assert settings(accept_loss=frozenset({"*"})).accepts_loss(TopicPartition("orders", 4))
