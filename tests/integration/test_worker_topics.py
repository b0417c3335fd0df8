"""Topics that are missing are made as documented, the others compared."""

import asyncio
import uuid
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from fixtures.topics import TopicFactory
from penstock_consumer.errors import SourceUnavailable, TopicMismatch
from penstock_consumer.settings import WorkerSettings
from penstock_consumer.topics import ensure_topics


def settings(kafka: str, name: str, **changes: Any) -> WorkerSettings:
    return WorkerSettings(bootstrap_servers=kafka, topics=(name,), group_id="g", **changes)


def config_of(kafka: str, name: str) -> dict[str, str]:
    admin = AdminClient({"bootstrap.servers": kafka})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    return {key: entry.value for key, entry in future.result(30).items()}


async def test_missing_topics_are_made_with_the_documented_settings(kafka: str) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    wanted = settings(kafka, name, partitions=3, max_message_bytes=500_000)
    try:
        # as three workers do that start at once
        found = await asyncio.gather(*(ensure_topics(wanted) for _ in range(3)))
        assert all(differences == [] for differences in found)
        source, letters = config_of(kafka, name), config_of(kafka, f"{name}.dlq")
        assert source["message.timestamp.type"] == letters["message.timestamp.type"] == "LogAppendTime"
        assert source["max.message.bytes"] == "500000"
        assert int(letters["max.message.bytes"]) >= 500_000 + 64 * 1024
        assert letters["retention.ms"] == "-1"
        admin = AdminClient({"bootstrap.servers": kafka})
        assert len(admin.list_topics(name, timeout=30).topics[name].partitions) == 3
    finally:
        admin = AdminClient({"bootstrap.servers": kafka})
        for future in admin.delete_topics([name, f"{name}.dlq"]).values():
            future.result(30)


async def test_existing_topics_are_compared_and_left_alone(kafka: str, topic: TopicFactory) -> None:
    name = topic(1, config={"message.timestamp.type": "CreateTime", "max.message.bytes": "2000000"})
    differences = await ensure_topics(settings(kafka, name))
    assert [(found.topic, found.setting) for found in differences] == [(name, "message.timestamp.type")]
    assert "producers' clocks" in str(differences[0])
    assert int(config_of(kafka, f"{name}.dlq")["max.message.bytes"]) >= 2_000_000 + 64 * 1024
    assert config_of(kafka, name)["message.timestamp.type"] == "CreateTime"


async def test_a_missing_topic_that_may_not_be_made_is_named(kafka: str) -> None:
    with pytest.raises(TopicMismatch, match="never-made"):
        await ensure_topics(settings(kafka, "never-made", create_topics=False))


async def test_more_replicas_than_brokers_is_said_so(kafka: str) -> None:
    with pytest.raises(TopicMismatch, match="replication"):
        await ensure_topics(settings(kafka, f"never-{uuid.uuid4().hex[:8]}", replication=3))


async def test_a_broker_that_does_not_answer_is_unavailable_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock_consumer.topics._DEADLINE", 1.0)
    with pytest.raises(SourceUnavailable):
        await asyncio.wait_for(ensure_topics(settings("127.0.0.1:1", "t")), 5)


async def test_a_setting_that_the_broker_refuses_is_said_so(kafka: str) -> None:
    with pytest.raises(TopicMismatch, match=r"max\.message\.bytes"):
        await ensure_topics(settings(kafka, f"never-{uuid.uuid4().hex[:8]}", max_message_bytes=-5))


async def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock_consumer.topics._DEADLINE", 0.5)
    nobody = WorkerSettings(bootstrap_servers="127.0.0.1:1", topics=("orders",), group_id="g")
    with pytest.raises(
        SourceUnavailable, match=r"Kafka at 127\.0\.0\.1:1 did not answer .*Connection refused"
    ):
        await ensure_topics(nobody)


async def test_a_silence_is_broken_before_the_deadline_and_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock_consumer.topics._DEADLINE", 1.5)
    monkeypatch.setattr("penstock_consumer._silence._SILENCE", 0.3)
    said: list[str] = []
    with pytest.raises(SourceUnavailable, match="Failed to resolve"):
        await ensure_topics(settings("penstock.invalid:9092", "t"), tell=said.append)
    assert len(said) == 1
    assert "Kafka at penstock.invalid:9092 is not answering" in said[0]
    assert "Failed to resolve" in said[0]
    assert "1.5 s" in said[0]


async def test_an_answer_in_time_says_nothing_of_silence(kafka: str, topic: TopicFactory) -> None:
    said: list[str] = []
    await ensure_topics(settings(kafka, topic(1)), tell=said.append)
    assert said == []
