"""A worker that may not do what it has to: it says so and ends, instead of waiting for ever."""

from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from fixtures.consuming import PipelineFactory
from fixtures.private_servers import running_kafka
from penstock_consumer.errors import DeadLettersRefused, TopicMismatch
from penstock_consumer.topics import ensure_topics

_AUTHORIZED = {
    "authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow_everyone_if_no_acl_found": "true",
}


def permit(kafka: str, topic: str, operation: AclOperation, who: str = "User:ANONYMOUS") -> None:
    """Nobody else may do anything with the topic from now on."""
    entry = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, who, "*", operation, AclPermissionType.ALLOW
    )
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_acls([entry])[entry].result(30)


async def test_what_kafka_does_not_allow_is_said_and_not_waited_for(
    make_pipeline: PipelineFactory, tmp_path: Path
) -> None:
    pipeline = make_pipeline(1)
    with running_kafka(tmp_path, **_AUTHORIZED) as broker:
        pipeline.kafka = broker.bootstrap_servers
        await ensure_topics(pipeline.settings(partitions=1))
        permit(pipeline.kafka, f"{pipeline.topic}.dlq", AclOperation.DESCRIBE)
        pipeline.produce([*pipeline.values(5), ("e0", b"\x09")])
        error = await pipeline.start().failed()
        assert isinstance(error, DeadLettersRefused)
        assert f"Grant WRITE and DESCRIBE on {pipeline.topic}.dlq" in str(error)
        assert (await pipeline.books())["dead_lettered"] == 0
        permit(pipeline.kafka, pipeline.topic, AclOperation.READ, who="User:somebody")
        error = await pipeline.start().failed()
        assert isinstance(error, TopicMismatch)
        assert f"see the topic {pipeline.topic}. Grant DESCRIBE" in str(error)
