"""A producer's counts, for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from penstock_producer._client import Client

__all__ = ["ProducerStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerStats:
    """Counts since the producer was opened in this process."""

    emitted: int = 0
    delivered: int = 0
    buffered: int = 0
    """Emitted, without an answer yet."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """By librdkafka's name of the error."""

    @classmethod
    def of(cls, client: Client) -> Self:
        """The counts of a client as of now; deliveries are counted as what is neither buffered nor failed."""
        failed, buffered, emitted = dict(client.failures.by_name), client.buffered(), client.emitted()
        delivered = max(0, emitted - buffered - sum(failed.values()))
        return cls(emitted=emitted, delivered=delivered, buffered=buffered, failed=failed)
