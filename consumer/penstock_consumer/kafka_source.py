"""Kafka as a `Source`: one thread owns librdkafka's consumer, so that its callbacks run there and nowhere
else.

Seen by experiment with cooperative-sticky and with KIP-848 (`group.protocol=consumer`), and pinned by tests:

* The assignment callback may assign nothing (`incremental_assign([])`): the group counts the partitions as
  ours, and fetching begins when they are assigned with offsets, outside the callback, whenever the claim
  has succeeded.
* Assigned partitions may be unassigned and assigned again between rebalances, with other offsets; no record
  of before comes after (1,300 rewinds under load, with `poll` and `consume` mixed). That replaces pause,
  resume and seek.
* `consume(n, t)` waits the whole of `t` for n records, and since 2.13 may return earlier with fewer: `poll`
  waits for the first record, `consume` then takes what lies ready.
* With every partition unassigned and polling, membership is kept; a member that stopped polling is told
  `lost`.

Eager assignment would do too, but stops every partition at every rebalance, and can only be changed as a
whole.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Any, TypeVar, cast

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from penstock_consumer._kafka_config import READING_REFUSED, client_config, consumer_config
from penstock_consumer._thread import OneThread
from penstock_consumer.errors import SourceFailed, SourceUnavailable
from penstock_consumer.interfaces import Inspected, Listener, PartitionState, Record, TopicPartition
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.settings import KafkaValue, WorkerSettings

__all__ = ["KafkaSource"]

log = structlog.get_logger(__name__)

K = TypeVar("K")

EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_DEADLINE = 10.0  # seconds for one question to the broker
_PUBLISH_EVERY = 1.0  # seconds; lag tools need no more
_WARN_EVERY = 30.0  # seconds between two warnings of one kind that no partition is at fault for
DAMAGED = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION})
# With auto.offset.reset=error librdkafka tells of a truncation in the text only.
_TRUNCATED = KafkaError(KafkaError._LOG_TRUNCATION).str()


class KafkaSource:
    """A member of the group. Use from one event loop; `close` once."""

    _more: Mapping[str, KafkaValue] = MappingProxyType({})
    """Settings of librdkafka that a kind of source needs beside all others."""

    def __init__(self, settings: WorkerSettings, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._thread = OneThread("kafka-source")
        self._listener: Listener
        self._loop: asyncio.AbstractEventLoop
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._cluster_id = ""
        self._flowing: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._published = 0.0
        self._warned: dict[int, float] = {}

    @property
    def cluster_id(self) -> str:
        """Of the cluster; known after the first `inspect`."""
        return self._cluster_id

    async def start(self, listener: Listener) -> None:
        """See `Source`. Needs no broker yet: librdkafka connects by itself."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        await self._thread.run(self._open)

    def _open(self) -> None:
        try:
            consumer = Consumer({**consumer_config(self._settings), **self._more, "error_cb": self._on_error})
            self._admin = AdminClient(client_config(self._settings))
        except KafkaException as error:
            raise SourceFailed(f"librdkafka refuses the Kafka settings: {error}. Correct them") from None
        self._consumer = consumer
        self._join(consumer)

    def _join(self, consumer: Consumer) -> None:
        consumer.subscribe(
            list(self._settings.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    async def fetch(self, limit: int, wait: float, linger: float) -> Sequence[Record]:
        """See `Source`."""
        return await self._thread.run(self._fetch, limit, wait, linger)

    def _fetch(self, limit: int, wait: float, linger: float) -> Sequence[Record]:
        consumer = self._open_consumer()
        try:
            first = consumer.poll(wait)
            messages = [] if first is None else [first]
            if first is not None and limit > 1:
                messages += consumer.consume(limit - 1, linger)
        except KafkaException as error:
            raise SourceFailed(f"the Kafka client gave up: {error}. Start the worker again") from error
        self._publish_now()
        good = [message for message in messages if message.error() is None]
        if len(good) < len(messages):
            for message in messages:
                self._note_error(message)
        return cast("Sequence[Record]", good)

    def _note_error(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        code = error.code()
        self._metrics.kafka_errors.labels(error.name()).inc()
        if code in READING_REFUSED or error.fatal():
            raise SourceFailed(
                f"Kafka refuses the worker: {error.str()}. Grant READ on the group "
                f"{self._settings.group_id!r} and READ and DESCRIBE on {', '.join(self._settings.topics)}, "
                "or correct the credentials"
            )
        topic, partition = message.topic(), message.partition()
        name = None if topic is None or partition is None else TopicPartition(topic, partition)
        if name and code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            truncated = _TRUNCATED in error.str()
            self._loop.call_soon_threadsafe(partial(self._listener.misplaced, name, truncated=truncated))
        elif name and code in DAMAGED:  # librdkafka tells so and goes on with the batch behind
            self._unassign([name])
            self._loop.call_soon_threadsafe(self._listener.unreadable, name, error.str())
        else:
            log.warning("kafka_error", code=error.name(), message=error.str())

    async def flow(self, starts: Mapping[TopicPartition, int]) -> None:
        """See `Source`."""
        if starts:
            await self._thread.run(self._flow, dict(starts))

    def _flow(self, starts: Mapping[TopicPartition, int]) -> None:
        self._unassign(list(starts))
        try:
            self._assign(starts)
        except KafkaException as error:
            raise SourceUnavailable(f"librdkafka does not assign: {error}") from error

    def _assign(self, starts: Mapping[TopicPartition, int]) -> None:
        self._open_consumer().incremental_assign([
            KafkaPartition(name.topic, name.partition, offset) for name, offset in starts.items()
        ])  # fmt: skip
        self._flowing |= starts.keys()

    async def hold(self, partitions: Sequence[TopicPartition]) -> None:
        """See `Source`."""
        if partitions:
            await self._thread.run(self._unassign, list(partitions))

    def _unassign(self, partitions: Sequence[TopicPartition]) -> None:
        flowing = [name for name in partitions if name in self._flowing]
        if flowing:  # an empty list would answer a revocation that waits to be told
            self._let_go(self._open_consumer(), flowing)

    async def inspect(self, partitions: Sequence[TopicPartition]) -> Inspected:
        """See `Source`."""
        if self._admin is None:
            raise SourceUnavailable("the Kafka source is not started")
        if not self._cluster_id:
            found = await self._ask(self._admin.describe_cluster(request_timeout=_DEADLINE))
            self._cluster_id = str(found.cluster_id)
        names = TopicCollection(sorted({name.topic for name in partitions}))
        topics = await self._answers(self._admin.describe_topics(names, request_timeout=_DEADLINE))
        there = [
            name for name in partitions if not isinstance(topics.get(name.topic), SourceUnavailable | None)
        ]
        lows = await self._offsets(there, EARLIEST)
        highs = await self._offsets(there, LATEST)
        states = {
            name: _state(topics.get(name.topic), lows.get(name), highs.get(name)) for name in partitions
        }
        return {name: state for name, state in states.items() if state is not None}

    async def _offsets(
        self, partitions: Sequence[TopicPartition], which: OffsetSpec
    ) -> dict[TopicPartition, Any]:
        if not partitions or self._admin is None:
            return {}
        asked = {KafkaPartition(name.topic, name.partition): which for name in partitions}
        found = await self._answers(self._admin.list_offsets(asked, request_timeout=_DEADLINE))
        return {TopicPartition(name.topic, name.partition): answer for name, answer in found.items()}

    async def _answers(self, asked: "Mapping[K, Future[Any]]") -> "dict[K, Any]":
        """Each answer, or why there is none: a partition without a leader is no other's fault. What is not
        there is left out.
        """
        found: dict[K, Any] = {}
        for name, future in asked.items():
            try:
                answer = await self._ask(future, missing=True)
            except SourceUnavailable as error:
                answer = error
            if answer is not None:
                found[name] = answer
        return found

    async def _ask(self, future: "Future[Any]", *, missing: bool = False) -> Any:
        """An answer of the admin client; None where `missing` is allowed and the topic is not there."""
        try:
            async with asyncio.timeout(_DEADLINE + 1):
                return await asyncio.wrap_future(future)
        except (KafkaException, TimeoutError) as error:
            code = error.args[0].code() if error.args and isinstance(error.args[0], KafkaError) else None
            if missing and code == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise SourceUnavailable(f"Kafka did not answer: {error or 'deadline passed'}") from error

    def publish(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Source`. Sent with the next fetch, at most once a second."""
        self._positions |= positions

    def _publish_now(self, *, last: bool = False) -> None:
        if not self._positions or (not last and monotonic() - self._published < _PUBLISH_EVERY):
            return
        positions, self._positions = self._positions, {}
        self._published = monotonic()
        offsets = [KafkaPartition(name.topic, name.partition, offset) for name, offset in positions.items()]
        with contextlib.suppress(KafkaException):  # in a rebalance, or not a member: nobody relies on it
            self._open_consumer().commit(offsets=offsets, asynchronous=True)

    async def close(self) -> None:
        """Leave the group, within a deadline: a broker that is away must not keep the process."""
        try:
            if self._consumer is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DEADLINE):
                        await self._thread.run(self._close)
        finally:
            self._thread.close()

    def _close(self) -> None:
        self._publish_now(last=True)
        self._open_consumer().close()
        self._consumer = None

    # ── librdkafka's callbacks, on the source's thread, inside poll, consume and close
    # ─────────────────────────

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        consumer.incremental_assign([])
        self._loop.call_soon_threadsafe(self._listener.assigned, _names(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        names = _names(partitions)
        self._tell(self._listener.revoked, names)
        self._let_go(consumer, names)

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        names = _names(partitions)
        self._tell(self._listener.lost, names)
        self._let_go(consumer, names)

    def _tell(self, what: Callable[[Sequence[TopicPartition]], Any], names: Sequence[TopicPartition]) -> None:
        """Run a coroutine of the engine and wait for it; the drain's own deadline bounds it, this is the
        second.
        """
        told = asyncio.run_coroutine_threadsafe(what(names), self._loop)
        try:
            told.result(self._settings.drain + 3 * _DEADLINE)
        except Exception as error:  # a callback must not raise into librdkafka; the fence stands behind it
            told.cancel()
            log.warning("rebalance_not_handled", cause=f"{type(error).__name__}: {error}")

    def _let_go(self, consumer: Consumer, names: Sequence[TopicPartition]) -> None:
        """Unassign those that flow. What the client keeps on delivering all the same the engine drops."""
        flowing = [KafkaPartition(name.topic, name.partition) for name in names if name in self._flowing]
        self._flowing.difference_update(names)
        try:
            consumer.incremental_unassign(flowing)
        except KafkaException as error:
            log.warning("not_unassigned", cause=str(error))

    def _on_error(self, error: KafkaError) -> None:
        self._metrics.kafka_errors.labels(error.name()).inc()
        # the same comes with each attempt to connect, twenty times a second at first
        now = monotonic()
        news = now - self._warned.get(error.code(), -_WARN_EVERY) >= _WARN_EVERY
        if news:
            self._warned[error.code()] = now
        (log.warning if news else log.debug)("kafka_error", code=error.name(), message=error.str())

    def _open_consumer(self) -> Consumer:
        if self._consumer is None:
            raise SourceFailed("the Kafka source is closed")
        return self._consumer


def _state(topic: Any, low: Any, high: Any) -> PartitionState | SourceUnavailable | None:
    """Of a partition, by the answers about it; the first that failed, or None where one is missing."""
    for answer in (topic, low, high):
        if isinstance(answer, SourceUnavailable | None):
            return answer
    return PartitionState(str(topic.topic_id), int(low.offset), int(high.offset), len(topic.partitions))


def _names(partitions: Sequence[KafkaPartition]) -> list[TopicPartition]:
    return [TopicPartition(found.topic, found.partition) for found in partitions]
