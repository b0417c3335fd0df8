"""Topics as the worker needs them: made with documented settings where they are missing, else compared with
those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from penstock_consumer._kafka_config import client_config
from penstock_consumer._silence import Reasons, listening
from penstock_consumer.errors import SourceUnavailable, TopicMismatch
from penstock_consumer.settings import WorkerSettings

__all__ = ["DEAD_LETTER_HEADROOM", "Difference", "TopicSpec", "ensure_topics"]

DEAD_LETTER_HEADROOM = 64 * 1024
"""Bytes that a dead-letter topic takes more than its source: the cause travels in headers."""

_DEADLINE = 15.0
_CANNOT_CREATE = (  # asked again the broker would say the same
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
)


_BROKERS_OWN = -1  # the broker's default.replication.factor, since Kafka 2.4


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """What a topic is made with; sizes in bytes."""

    partitions: int
    replication: int | None
    """None leaves it to the broker."""
    max_message_bytes: int
    retention_ms: int | None = None
    """None leaves it to the broker."""

    def config(self) -> dict[str, str]:
        """The topic settings that matter here, in Kafka's names."""
        config = {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "max.message.bytes": str(self.max_message_bytes),
        }
        return config if self.retention_ms is None else {**config, "retention.ms": str(self.retention_ms)}

    def topic(self, name: str) -> NewTopic:
        """What to ask the broker for."""
        return NewTopic(name, self.partitions, self.replication or _BROKERS_OWN, config=self.config())

    def dead_letters(self) -> TopicSpec:
        """Of the dead-letter topic: one partition, larger records, kept for ever."""
        return TopicSpec(
            partitions=1,
            replication=self.replication,
            max_message_bytes=self.max_message_bytes + DEAD_LETTER_HEADROOM,
            retention_ms=-1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A topic that exists is otherwise than we would have made it. Nothing is changed."""

    topic: str
    setting: str
    wanted: str
    found: str
    why: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, {self.wanted} is wanted: {self.why}"


_WHY = {
    "message.timestamp.type": "with CreateTime retention and time-based replay follow the producers' clocks",
    "max.message.bytes": "a record with its cause in headers may not fit, and goes as a reference",
    "cleanup.policy": "compaction deletes events that were not ingested yet",
    "retention.ms": "dead letters that expire are lost before somebody looks",
}


def _unheard(_said: str) -> None:
    pass


async def ensure_topics(
    settings: WorkerSettings, *, tell: Callable[[str], None] = _unheard
) -> list[Difference]:
    """Make what is missing and compare the rest. Safe to run in several workers at once.

    A dead-letter topic follows the size of its source, where that exists. Raises `TopicMismatch` where a
    topic is missing and may not be made, `SourceUnavailable` where Kafka does not answer; `tell` hears before
    that, after a few seconds of silence, that and why it is waited for.
    """
    reasons = Reasons()
    config: dict[str, Any] = {**client_config(settings), "error_cb": reasons}
    admin = AdminClient(config)
    where = f"Kafka at {settings.bootstrap_servers}"
    try:
        async with listening(admin, reasons, where, _DEADLINE, tell):
            return await _ensure(admin, settings)
    except SourceUnavailable as error:
        because = f"; {reasons.last}" if reasons.last else ""
        raise SourceUnavailable(f"{where} did not answer about topics: {error}{because}") from error


async def _ensure(admin: AdminClient, settings: WorkerSettings) -> list[Difference]:
    names = [name for topic in settings.topics for name in (topic, settings.dead_letter_topic(topic))]
    configs = await _configs(admin, sorted(await _existing(admin, names)))
    specs = _specs(settings, configs)
    missing = {name: spec for name, spec in specs.items() if name not in configs}
    if missing and not settings.create_topics:
        raise TopicMismatch(
            f"{', '.join(missing)} do not exist, and `--no-create-topics` (in code create_topics=False) "
            f"was given; make them, each dead-letter topic with {DEAD_LETTER_HEADROOM} more "
            "max.message.bytes than its source"
        )
    await _create(admin, missing)
    return [
        difference
        for name, found in configs.items()
        for difference in _compare(name, specs[name], found, is_source=name in settings.topics)
    ]


def _specs(settings: WorkerSettings, configs: Mapping[str, Mapping[str, str]]) -> dict[str, TopicSpec]:
    specs = {}
    for topic in settings.topics:
        size = int(configs.get(topic, {}).get("max.message.bytes", settings.max_message_bytes))
        spec = TopicSpec(
            partitions=settings.partitions, replication=settings.replication, max_message_bytes=size
        )
        specs[topic] = spec
        specs[settings.dead_letter_topic(topic)] = spec.dead_letters()
    return specs


def _compare(name: str, spec: TopicSpec, found: Mapping[str, str], *, is_source: bool) -> list[Difference]:
    differences = []
    for setting, wanted in spec.config().items():
        value = found.get(setting, wanted)  # not shown to us: nothing to compare
        enough = setting == "max.message.bytes" and (is_source or int(value) >= int(wanted))
        if value != wanted and not enough:
            differences.append(
                Difference(topic=name, setting=setting, wanted=wanted, found=value, why=_WHY[setting])
            )
    return differences


async def _existing(admin: AdminClient, names: Sequence[str]) -> set[str]:
    described = admin.describe_topics(TopicCollection(list(names)), request_timeout=_DEADLINE)
    found = set()
    for name, future in described.items():
        try:
            await _answer(future)
            found.add(name)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise TopicMismatch(
                    f"Kafka does not let this login see the topic {name}. Grant DESCRIBE on it, with READ on "
                    "a topic that is ingested and WRITE on a dead-letter topic, or correct the credentials"
                ) from error
            _unless(error, KafkaError.UNKNOWN_TOPIC_OR_PART)
    return found


async def _configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Of each topic, empty where we may not look."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    if not names:
        return found
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    for resource, future in admin.describe_configs(asked, request_timeout=_DEADLINE).items():
        try:
            entries = await _answer(future)
        except KafkaException as error:
            _unless(error, KafkaError.TOPIC_AUTHORIZATION_FAILED)
            continue
        found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    return found


async def _create(admin: AdminClient, specs: Mapping[str, TopicSpec]) -> None:
    if not specs:
        return
    new = [spec.topic(name) for name, spec in specs.items()]
    for name, future in admin.create_topics(new, request_timeout=_DEADLINE).items():
        try:
            await _answer(future)
        except KafkaException as error:
            if error.args[0].code() in _CANNOT_CREATE:
                raise TopicMismatch(
                    f"topic {name} is missing and cannot be made: {error.args[0].str()}. Make it yourself, "
                    "grant CREATE, or correct the settings for new topics"
                ) from error
            _unless(error, KafkaError.TOPIC_ALREADY_EXISTS)


def _unless(error: KafkaException, code: int) -> None:
    if error.args[0].code() != code:
        raise SourceUnavailable(error.args[0].str()) from error


async def _answer(future: Any) -> Any:
    try:
        async with asyncio.timeout(_DEADLINE + 1):
            return await asyncio.wrap_future(future)
    except TimeoutError as error:
        raise SourceUnavailable(f"no answer within {_DEADLINE:g} s") from error
