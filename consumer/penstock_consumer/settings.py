"""How a worker behaves: frozen, keyword-only, validated when made. Times are seconds, sizes bytes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from penstock_consumer.interfaces import TopicPartition

__all__ = ["BatchLimits", "WorkerSettings"]

KafkaValue = str | int | float | bool

# What Kafka takes; asked with any other name it answers as if it were away.
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
# Ours to decide: the engine's promises rest on them.
_FIXED = (
    "bootstrap.servers",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """When a batch is full. A batch that is not full goes as soon as the writer is idle and nothing waits
    in Kafka, or what went before it was half as much.
    """

    records: int = 24_000
    """More beat 10,000 by measurement; beyond it memory grows (1 MiB for 300 records) and speed does not."""
    bytes: int = 16 * 1024 * 1024
    linger: float = 0.01
    """How long the first record of a batch waits for company when the writer is idle."""
    age: float = 0.5
    """How long it waits at most, however much more waits in Kafka, once the writer is idle."""
    fetch: int = 5_000
    """Records taken and decoded at a time: the granularity of everything that interrupts decoding. So many
    are the first batch of a full stream, each later one twice as many up to `records`."""

    def __post_init__(self) -> None:
        if self.records < 1 or self.fetch < 1 or self.bytes < 1024:
            raise ValueError("batch limits: records and fetch must be at least 1, bytes at least 1024")
        if not 0 <= self.linger <= self.age:
            raise ValueError("batch limits: linger must be between 0 and age")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """One worker of one group. Secrets are in `kafka` only, which is never logged."""

    bootstrap_servers: str
    topics: tuple[str, ...]
    group_id: str
    kafka: Mapping[str, KafkaValue] = field(default_factory=dict, repr=False)
    """More librdkafka settings (TLS, SASL, timeouts) for every client that the worker makes."""
    batch: BatchLimits = BatchLimits()
    start: Literal["earliest", "latest"] = "earliest"
    """Where a partition begins of which PostgreSQL holds no position; one that comes under a topic which the
    group knows begins at its beginning.
    """
    conflicts: Literal["dead_letter", "report"] = "dead_letter"
    """What becomes of an event whose key is stored with another content; metric and log in either case."""
    accept_loss: frozenset[str] = frozenset()
    """Partitions, as `topic:partition`, or `*`, that go on although the broker lost records of theirs."""
    dead_letter_suffix: str = ".dlq"
    dead_letter_share: float = 0.5
    """Above this share of bad records in the last `dead_letter_window`, or in the last batch where that is
    larger, the worker stops; 1 never does.
    """
    dead_letter_window: int = 10_000
    pause_after: float = 1.0
    """A wait longer than this makes the worker poll with its partitions held, so as to stay a member."""
    drain: float = 10.0
    """How long a revoked partition may take to write what is decoded."""
    grace: float = 20.0
    """How long a stop may take in all."""
    fence_backoff: float = 5.0
    """Before claiming again what another worker claimed: longer than a heartbeat, by which a worker that was
    replaced learns of it."""
    check_topics: float = 10.0
    """How often topic ids and watermarks are asked for."""
    create_topics: bool = True
    partitions: int = 6
    replication: int | None = None
    """None: the broker's `default.replication.factor`."""
    max_message_bytes: int = 1024 * 1024
    """Of topics that are created; their dead-letter topics get 64 KiB more."""

    def __post_init__(self) -> None:
        if not self.bootstrap_servers or not self.topics or not self.group_id:
            raise ValueError("worker settings: bootstrap_servers, topics and group_id must not be empty")
        if wrong := [name for name in self.topics if not _TOPIC.fullmatch(name) or name in (".", "..")]:
            raise ValueError(f"worker settings: {wrong[0]!r} is no name for a topic")
        if len(set(self.topics)) != len(self.topics):
            raise ValueError("worker settings: a topic is named twice")
        if taken := sorted(set(_FIXED) & set(self.kafka)):
            raise ValueError(f"worker settings: kafka must not hold {', '.join(taken)}: the worker sets them")
        self._check_rebalance_protocol()
        if not 0 < self.dead_letter_share <= 1 or self.dead_letter_window < 100:
            raise ValueError("worker settings: dead_letter_share must be in (0, 1], its window at least 100")
        if min(self.pause_after, self.drain, self.grace, self.fence_backoff, self.check_topics) <= 0:
            raise ValueError("worker settings: times must be positive")
        for name in self.accept_loss - {"*"}:
            topic, _, partition = name.rpartition(":")
            if not topic or not partition.isdigit():
                raise ValueError(f"worker settings: accept_loss takes topic:partition or *, not {name!r}")
        object.__setattr__(self, "kafka", MappingProxyType(dict(self.kafka)))

    def _check_rebalance_protocol(self) -> None:
        strategy = self.kafka.get("partition.assignment.strategy", "cooperative-sticky")
        if strategy != "cooperative-sticky":
            raise ValueError(
                "worker settings: partition.assignment.strategy must be cooperative-sticky (or use "
                "group.protocol=consumer): partitions are started one by one, which eager assignment forbids"
            )

    def accepts_loss(self, partition: TopicPartition) -> bool:
        """Whether an operator said that this partition may go on without what was lost."""
        return "*" in self.accept_loss or f"{partition.topic}:{partition.partition}" in self.accept_loss

    def dead_letter_topic(self, topic: str) -> str:
        """Where the bad records of `topic` go."""
        return topic + self.dead_letter_suffix
