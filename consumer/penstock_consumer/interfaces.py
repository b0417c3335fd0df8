"""What the engine needs from the outside world, and nothing more.

Production plugs in Kafka and PostgreSQL, the simulation plugs in its own; both run the same engine.
Everything that may wait is `async` and has its deadline inside the implementation.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

from penstock_consumer.errors import SourceUnavailable
from penstock_schemas.rows import Row
from penstock_store.ingest import Batch, Claim, PartitionRef, Rejection, WriteResult

__all__ = [
    "Clock",
    "DeadLetter",
    "DeadLetterSink",
    "Inspected",
    "Listener",
    "Offload",
    "PartitionState",
    "Record",
    "RecordDecoder",
    "SchemaSource",
    "Sink",
    "Source",
    "TopicPartition",
]

P = ParamSpec("P")
R = TypeVar("R")

Headers = Sequence[tuple[str, bytes | None]]


class TopicPartition(NamedTuple):
    """Where a record comes from."""

    topic: str
    partition: int


class Record(Protocol):
    """One Kafka record, in the shape of `confluent_kafka.Message`, so that production wraps nothing."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]:
        """(kind, milliseconds since the Unix epoch)."""

    def leader_epoch(self) -> int | None:
        """Under which leader it was written; with its offset that tells it from any other record of its
        partition. None where the broker does not say.
        """


class PartitionState(NamedTuple):
    """What the broker says of a partition: the topic's id, the first offset it still has, the next it will
    give; and how many partitions the topic has.
    """

    topic_id: str
    low: int
    high: int
    partitions: int = 1


Inspected = Mapping[TopicPartition, PartitionState | SourceUnavailable]
"""Partitions of topics that are there; each with its state, or with why the broker does not say it."""


class Listener(Protocol):
    """Told of changes of assignment by the source, while a `fetch` or `close` is under way and never
    otherwise.
    """

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """The group gave these to us. Nothing is fetched before `Source.flow` says from where."""

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """The group takes these; they are ours until this returns."""

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These are another worker's already: forget them, commit nothing."""

    def misplaced(self, partition: TopicPartition, *, truncated: bool = False) -> None:
        """The broker does not have the offset that was to be fetched next, or (`truncated`) has other records
        below it than were fetched.
        """

    def unreadable(self, partition: TopicPartition, why: str) -> None:
        """What the broker gave of it is damaged, and the client goes on behind it."""


class Source(Protocol):
    """A member of a consumer group whose positions are ours alone.

    A partition flows from exactly the offset given to `flow`; the source remembers and stores none.
    """

    @property
    def cluster_id(self) -> str:
        """Known after the first `inspect`."""

    async def start(self, listener: Listener) -> None:
        """Join the group."""

    async def fetch(self, limit: int, wait: float, linger: float) -> Sequence[Record]:
        """At most `limit` records in the order of each partition: waits `wait` seconds for the first and
        `linger` for more to come. Keeps the membership alive, also where nothing flows. Raises
        `SourceFailed`.
        """

    async def flow(self, starts: Mapping[TopicPartition, int]) -> None:
        """Fetch these partitions from these offsets, whatever was fetched of them before. Raises
        `SourceUnavailable` where the client refuses just now.
        """

    async def hold(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch nothing of these until they `flow` again."""

    async def inspect(self, partitions: Sequence[TopicPartition]) -> Inspected:
        """Ask the broker. A partition whose topic is gone is left out; one that has no leader keeps the
        others from nothing. Raises `SourceUnavailable` where no question can be asked.
        """

    def publish(self, positions: Mapping[TopicPartition, int]) -> None:
        """Let lag tools know. Best effort: nothing here reads it back."""

    async def close(self) -> None:
        """Leave the group."""


class Sink(Protocol):
    """What `penstock_store.ingest.PostgresSink` does; its errors are in `penstock_store.errors`."""

    async def claim(
        self, refs: Sequence[PartitionRef], met: Sequence[PartitionRef] = (), /
    ) -> Mapping[PartitionRef, Claim]: ...
    async def release(self, claims: Sequence[Claim], /) -> None: ...
    async def adopt(self, ref: PartitionRef, /) -> None: ...
    async def write(
        self, batch: Batch, /, *, reject: Callable[[Sequence[Rejection]], Awaitable[None]]
    ) -> WriteResult: ...
    async def skip(self, claim: Claim, first: int, next_offset: int, reason: str) -> Claim: ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that will not be stored, and why."""

    record: Record
    stage: str
    """VALUE_CONVERTER (decoding) or TASK_PUT (storing): Kafka Connect's words."""
    reason: str
    """Short and fixed, fit for a metric's label."""
    message: str
    exception: str
    """The class that said so."""
    topic_id: str = ""
    """Of the record's topic: tells it from a namesake that was deleted before."""


class DeadLetterSink(Protocol):
    """Where records go that cannot be stored."""

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once all are acknowledged. Raises `DeadLettersUnavailable`, or `DeadLettersRefused` where
        no attempt can help.
        """


class RecordDecoder(Protocol):
    """What `penstock_schemas` decodes with; pure."""

    def add_schema(self, schema_id: int, schema_json: str) -> None:
        """Raises `UnsupportedSchema`, which it also remembers: `decode` then raises it for each record."""

    def row(self, value: bytes) -> Row:
        """Raises `DecodeError`, or `SchemaNotLoaded` where the schema has to be added first."""


class SchemaSource(Protocol):
    """Schemas by id; its errors are in `penstock_schemas.errors`."""

    async def schema(self, schema_id: int) -> str:
        """Raises `UnknownSchemaId` (the record's fault) or `RegistryUnavailable` (ask again)."""


class Clock(Protocol):
    """Time, so that a simulation can have its own. It agrees with the event loop's, which times out waits."""

    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""

    def time(self) -> float:
        """Seconds since the Unix epoch."""

    async def sleep(self, seconds: float) -> None: ...


class Offload(Protocol):
    """Runs CPU-bound work beside the event loop: one thread in production, in place in a simulation."""

    async def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
