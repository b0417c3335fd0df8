"""A partition without a leader, on librdkafka's own mock broker: to take a real one's leader needs two."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from fixtures.librdkafka import MockCluster
from penstock_consumer.errors import SourceUnavailable
from penstock_consumer.interfaces import PartitionState, TopicPartition
from penstock_consumer.kafka_source import KafkaSource
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.settings import WorkerSettings


class Admin(AdminClient):
    """Describes what the mock broker does not; everything else it is asked itself."""

    def describe_cluster(self, **_: Any) -> "Future[Any]":  # type: ignore[override]
        return answered(SimpleNamespace(cluster_id="mock"))

    def describe_topics(self, topics: TopicCollection, **_: Any) -> "dict[str, Future[Any]]":  # type: ignore[override]
        description = SimpleNamespace(topic_id="id", partitions=[0, 1, 2])
        return {name: answered(description) for name in topics.topic_names}


def answered(answer: object) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(answer)
    return future


@pytest.fixture
def cluster() -> MockCluster:
    cluster = MockCluster()
    cluster.make_topic("orders", 3)
    return cluster


async def test_one_partition_without_a_leader_leaves_the_others_their_answers(cluster: MockCluster) -> None:
    cluster.take_leader("orders", 1)
    source = KafkaSource(
        WorkerSettings(bootstrap_servers=cluster.bootstrap_servers, topics=("orders",), group_id="g"),
        WorkerMetrics(CollectorRegistry()),
    )
    source._admin = Admin({"bootstrap.servers": cluster.bootstrap_servers})
    found = await source.inspect([TopicPartition("orders", number) for number in range(3)])
    await source.close()
    states = {name.partition: state for name, state in found.items()}
    assert states[0] == states[2] == PartitionState("id", 0, 0, 3)
    assert isinstance(states[1], SourceUnavailable)
    assert "Leader not available" in str(states[1])
