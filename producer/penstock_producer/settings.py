"""What a producer can be told, validated when made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from penstock_producer.errors import InvalidSettings

__all__ = ["Compression", "KafkaValue", "ProducerOptions", "ProducerSettings"]

KafkaValue = str | int | float | bool
Compression = Literal["zstd", "lz4", "snappy", "gzip", "none"]

# What the pipeline's promises stand on: no duplicates from retries inside Kafka, no acknowledged loss, and
# one partition per key whatever language produced it (Java hashes with murmur2; librdkafka's own default does
# not).
_FIXED: dict[str, KafkaValue] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
}
_SAME = {"request.required.acks": "acks"}
_ALL_ACKS = frozenset({"all", "-1"})
_OURS = {
    "bootstrap.servers": "the first argument says it",
    "metadata.broker.list": "the first argument says it",
    "transactional.id": "transactions are not used: idempotency keys do their work at the other end",
    "default.topic.config": "write its properties beside the others",
    "delivery.report.only.error": "every delivery is reported to whoever waits for it",
    "on_delivery": "emit() returns the delivery",
    "dr_cb": "emit() returns the delivery",
    "dr_msg_cb": "emit() returns the delivery",
    "error_cb": "the producer logs them and adds them to delivery errors",
}
_MILLISECONDS = 1_000
_KIB = 1_024


class ProducerOptions(TypedDict, total=False):
    """The keyword arguments of `Producer` that tune it; `ProducerSettings` explains each."""

    compression: Compression
    linger: float
    buffer_events: int
    buffer_bytes: int
    on_full: Literal["block", "raise"]
    block_timeout: float
    delivery_timeout: float
    registry_timeout: float
    close_timeout: float
    max_event_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings:
    """Times are seconds, sizes bytes.

    `config` passes librdkafka settings through (TLS, SASL, …) and wins over what is tuned here;
    `enable.idempotence`, `acks` and `partitioner` are fixed. Raises `InvalidSettings`.
    """

    bootstrap_servers: str
    topic: str
    compression: Compression = "zstd"
    linger: float = 0.005
    """How long a batch may wait for company. A single event is late by as much."""
    buffer_events: int = 100_000
    buffer_bytes: int = 64 * _KIB * _KIB
    """What may wait for Kafka. Beyond either bound the buffer is full."""
    on_full: Literal["block", "raise"] = "block"
    block_timeout: float = 60.0
    """Full buffer: wait so long for room (then `BufferFull`), or raise `BufferFull` at once."""
    delivery_timeout: float = 120.0
    """An event without acknowledgement for so long has failed, retries included."""
    registry_timeout: float = 15.0
    close_timeout: float = 30.0
    max_event_bytes: int = 1_000_000
    """Key and value. Topics take 1,048,588 bytes by default, with batch and record headers."""
    config: Mapping[str, KafkaValue] = field(default_factory=dict, repr=False)  # may hold passwords

    def __post_init__(self) -> None:
        if not self.bootstrap_servers:
            raise InvalidSettings("bootstrap_servers is empty; give host:port, several separated by commas")
        if not self.topic:
            raise InvalidSettings("topic is empty; name the topic to emit to")
        if self.on_full not in ("block", "raise"):
            raise InvalidSettings('on_full must be "block" or "raise"')
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise InvalidSettings(f"{name} must be at least {least}")
        if self.delivery_timeout <= self.linger:
            raise InvalidSettings("delivery_timeout must be longer than linger, else everything times out")
        if self.max_event_bytes > self.buffer_bytes:
            raise InvalidSettings("buffer_bytes must hold at least one event of max_event_bytes")
        _check_passthrough(self.config)

    def librdkafka(self) -> dict[str, KafkaValue]:
        """The client's configuration. It may hold passwords: never log it."""
        return {
            "client.id": "penstock-producer",
            "log_level": 5,  # what librdkafka says when it ends, past any logger, is of level 6
            "linger.ms": self.linger * _MILLISECONDS,
            "compression.type": self.compression,
            "queue.buffering.max.messages": self.buffer_events,
            "queue.buffering.max.kbytes": max(1, self.buffer_bytes // _KIB),
            "message.max.bytes": self.max_event_bytes,
            "delivery.timeout.ms": max(1, round(self.delivery_timeout * _MILLISECONDS)),
            **{name: value for name, value in self.config.items() if name not in _SAME},
            **_FIXED,
            "bootstrap.servers": self.bootstrap_servers,
        }


# message.max.bytes and queue.buffering.max.messages have these floors in librdkafka.
_LEAST = {
    "linger": 0,
    "buffer_events": 1,
    "buffer_bytes": _KIB,
    "block_timeout": 0,
    "delivery_timeout": 0.001,
    "registry_timeout": 0.001,
    "close_timeout": 0,
    "max_event_bytes": 1_000,
}


def _check_passthrough(config: Mapping[str, KafkaValue]) -> None:
    for name, value in config.items():
        if name in _OURS:
            raise InvalidSettings(f"config must not hold {name}: {_OURS[name]}")
        fixed = _SAME.get(name, name)
        if fixed in _FIXED and not _equal(fixed, value):
            raise InvalidSettings(
                f"config must not change {name}: it is fixed to {_FIXED[fixed]!r}, because order and "
                "deduplication stand on it; leave it out"
            )


def _equal(name: str, value: KafkaValue) -> bool:
    spelt = str(value).lower()
    return spelt in _ALL_ACKS if name == "acks" else spelt == str(_FIXED[name]).lower()
