"""librdkafka's settings for each client that a worker makes, and the errors that only others or more rights
mend. The settings hold secrets: never log them.
"""

from logging import Logger

from confluent_kafka import KafkaError

from penstock_consumer.settings import KafkaValue, WorkerSettings
from penstock_schemas.client_log import client_logger

__all__ = [
    "READING_REFUSED",
    "client_config",
    "consumer_config",
    "dead_letter_config",
    "reader_config",
    "redrive_config",
]

READING_REFUSED = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
})  # fmt: skip

_CONSUMER_ONLY = (
    "auto.",
    "check.crcs",
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.",
    "max.partition.fetch",
    "max.poll.",
    "partition.assignment",
    "queued.",
    "session.",
)


def consumer_config(settings: WorkerSettings) -> dict[str, KafkaValue | Logger]:
    """The group member's: our defaults, the user's over them, then what the engine's promises rest on."""
    defaults: dict[str, KafkaValue] = {
        "log_level": 5,  # what librdkafka says when it ends, past any logger, is of level 6
        "client.id": f"penstock-{settings.group_id}",
        # Prefetched bytes: part of the worker's memory bound.
        "queued.max.messages.kbytes": 16 * 1024,
        # How long a full prefetch is left alone: 1 s, the default, starved the worker of records of 2 kB.
        "fetch.queue.backoff.ms": 250,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        # Damage between the producer and here stops the partition; unchecked it would be stored, or look like
        # a bad record.
        "check.crcs": True,
    }
    if settings.kafka.get("group.protocol", "classic") == "classic":
        # A killed worker's partitions are free after the session timeout; 45 s, the default, is a long
        # silence.
        # A member learns of a rebalance by its next heartbeat, and a cooperative one takes two rounds.
        defaults |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 1_000,
        }
    return {
        **defaults,
        **settings.kafka,
        "logger": client_logger("penstock_consumer.librdkafka"),
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": False,
        "auto.offset.reset": "error",  # an offset that the broker lacks is a loss, never a new beginning
    }


def client_config(settings: WorkerSettings) -> dict[str, KafkaValue]:
    """An admin client's: of the user's settings those that are not a consumer's.

    It says nothing by itself: nobody polls it, its requests tell what failed, and the consumer sees the same.
    """
    return {
        "log_level": 0,
        "client.id": f"penstock-{settings.group_id}",
        **{name: value for name, value in settings.kafka.items() if not name.startswith(_CONSUMER_ONLY)},
        "bootstrap.servers": settings.bootstrap_servers,
    }


def dead_letter_config(settings: WorkerSettings, deadline: float) -> dict[str, KafkaValue]:
    """The dead letters' producer's. `deadline`: seconds for an acknowledgement."""
    return {
        "linger.ms": 5,
        "compression.type": "zstd",
        **client_config(settings),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "delivery.timeout.ms": int(deadline * 1000),
        # The broker's topic decides what is too large, not this client.
        "message.max.bytes": 1_000_000_000,
    }


def reader_config(settings: WorkerSettings) -> dict[str, KafkaValue | Logger]:
    """A tool's that reads from given offsets, apart from the group, and is told where a partition ends."""
    taken = ("group.protocol", "group.instance.id", "isolation.level")
    return {
        "log_level": 0,
        "check.crcs": True,
        "fetch.wait.max.ms": 100,
        **{name: value for name, value in settings.kafka.items() if name not in taken},
        "logger": client_logger("penstock_consumer.librdkafka"),
        "client.id": f"penstock-{settings.group_id}-reader",
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": f"{settings.group_id}-reader",  # librdkafka asks for one; it joins none
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
    }


def redrive_config(settings: WorkerSettings, transactional_id: str, timeout: float) -> dict[str, KafkaValue]:
    """The redrive's producer's. `timeout`: seconds after which the broker aborts what was left open."""
    config = dead_letter_config(settings, timeout)
    return {**config, "transactional.id": transactional_id, "transaction.timeout.ms": int(timeout * 1000)}
