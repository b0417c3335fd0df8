"""Checksums of events that do not depend on the order of reading. Pure.

Documents count by their canonical text, which is the same whatever a store makes of keys and numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from penstock_schemas import RecordedEvent
from penstock_schemas._text import known_good_json
from penstock_schemas.fields import microseconds

__all__ = ["BUCKETS", "Sums", "bucket_of", "content_digest"]

BUCKETS: Final = 4_096  # differences are looked for only where a bucket's sums differ
_MODULUS: Final = 2**128


def content_digest(event: RecordedEvent) -> bytes:
    """16 bytes over every field but sequence and recorded_at, which are the store's."""
    digest = blake2b(digest_size=16)
    for text in (
        event.event_id.hex,
        event.event_type,
        str(microseconds(event.occurred_at)),
        event.actor_type,
        event.actor_id,
        event.entity_id,
        event.tenant_id,
        event.correlation_id,
        event.causation_id,
        str(event.schema_version),
        event.idempotency_key,
    ):
        if text is None:
            digest.update(b"-")
        else:
            data = text.encode()
            digest.update(b"%d:" % len(data) + data)
    for document in (event.payload, event.metadata):
        data = known_good_json(document)
        digest.update(b"%d:" % len(data) + data)
    return digest.digest()


def bucket_of(event: RecordedEvent) -> int:
    """Where an event is counted; an event of the same id, whatever else it says, is counted there too."""
    return hash(event.event_id) % BUCKETS


@dataclass(slots=True)
class Sums:
    """Counts and checksums of a set of events, in constant size. Sums: an exclusive or would lose pairs."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    contents: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    placed: int = 0  # over (event id, sequence)
    timed: int = 0  # over (event id, recorded_at)
    order: bytes = b""  # a chain in the order of reading

    def add(self, event: RecordedEvent) -> None:
        """Count one."""
        content, bucket = content_digest(event), bucket_of(event)
        self.counts[bucket] += 1
        self.contents[bucket] += int.from_bytes(content, "big")
        name = event.event_id.bytes
        self.placed += _number(b"%b %d" % (name, event.sequence))
        self.timed += _number(b"%b %d" % (name, microseconds(event.recorded_at)))
        self.order = blake2b(self.order + name, digest_size=16).digest()

    @property
    def count(self) -> int:
        """Of all events."""
        return sum(self.counts)

    @property
    def checksum(self) -> str:
        """32 hexadecimal digits; equal for equal events in whatever order."""
        return f"{sum(self.contents) % _MODULUS:032x}"

    def differing(self, other: Sums) -> Iterator[int]:
        """The buckets whose events are not the same."""
        for bucket, mine in enumerate(zip(self.counts, self.contents, strict=True)):
            if mine != (other.counts[bucket], other.contents[bucket]):
                yield bucket


def _number(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=16).digest(), "big")
