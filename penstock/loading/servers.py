"""The producer and the topic of the command line, made from the settings."""

import asyncio
import re
from collections.abc import Callable
from typing import Unpack

from penstock.errors import InputError
from penstock.settings import Settings
from penstock_consumer.settings import WorkerSettings
from penstock_consumer.topics import ensure_topics
from penstock_producer import Producer
from penstock_producer.settings import ProducerOptions

__all__ = ["make_topic", "producer_of"]

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


def producer_of(settings: Settings, topic: str, **options: Unpack[ProducerOptions]) -> Producer:
    """A producer for `topic`; nothing is connected yet."""
    options.setdefault("registry_timeout", settings.timeout_seconds)
    return Producer(
        settings.kafka_bootstrap_servers,
        topic=topic,
        schema_registry_url=settings.registry(),
        config=settings.kafka_config,
        **options,
    )


def make_topic(settings: Settings, topic: str, tell: Callable[[str], None]) -> None:
    """Make the topic and its dead-letter topic, as a worker would, where they are missing.

    `tell` hears when Kafka keeps silent, before it is given up.
    Raises `InputError` for what cannot be a topic's name, `penstock_consumer.errors.ConsumerError` where
    Kafka does not answer or does not allow it.
    """
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise InputError(
            f"{topic!r} is no name for a topic: Kafka takes up to 249 letters, digits, dots, underscores "
            f"and hyphens."
        )
    wanted = WorkerSettings(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topics=(topic,),
        group_id=settings.group_id,
        kafka=settings.kafka_config,
    )
    asyncio.run(ensure_topics(wanted, tell=tell))
