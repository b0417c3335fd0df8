"""The worker's Prometheus objects. Names, help and buckets are in `penstock_schemas.metric_defs` only."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from penstock_consumer.batching import Lane, PendingBatch
from penstock_consumer.interfaces import TopicPartition
from penstock_schemas import metric_defs as defs
from penstock_store.ingest import Outcome, WriteResult

__all__ = ["WorkerMetrics"]


def _counter(metric: defs.Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name.removesuffix("_total"), metric.help, metric.labels, registry=registry)


def _gauge(metric: defs.Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def _histogram(metric: defs.Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


class WorkerMetrics:
    """Touched once a chunk or batch, never once a record."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = _counter(defs.WORKER_RECORDS, registry)
        self.record_bytes = _counter(defs.WORKER_RECORD_BYTES, registry)
        self.events = _counter(defs.WORKER_EVENTS, registry)
        self.dead_letters = _counter(defs.WORKER_DEAD_LETTERS, registry)
        self.conflicts = _counter(defs.WORKER_CONFLICTS, registry)
        self.batches = _counter(defs.WORKER_BATCHES, registry)
        self.batch_events = _histogram(defs.WORKER_BATCH_EVENTS, registry)
        self.batch_bytes = _histogram(defs.WORKER_BATCH_BYTES, registry)
        self.batch_age = _histogram(defs.WORKER_BATCH_AGE, registry)
        self.decode_seconds = _histogram(defs.WORKER_DECODE_SECONDS, registry)
        self.write_seconds = _histogram(defs.WORKER_WRITE_SECONDS, registry)
        self.position = _gauge(defs.WORKER_POSITION, registry)
        self.end_offset = _gauge(defs.WORKER_END_OFFSET, registry)
        self.lag = _gauge(defs.WORKER_LAG, registry)
        self.event_delay = _histogram(defs.WORKER_EVENT_DELAY, registry)
        self.partitions = _gauge(defs.WORKER_PARTITIONS, registry)
        self.partition_stopped = _gauge(defs.WORKER_PARTITION_STOPPED, registry)
        self.lost_offsets = _counter(defs.WORKER_LOST_OFFSETS, registry)
        self.database_up = _gauge(defs.WORKER_DATABASE_UP, registry)
        self.database_errors = _counter(defs.WORKER_DATABASE_ERRORS, registry)
        self.registry_errors = _counter(defs.WORKER_REGISTRY_ERRORS, registry)
        self.retries = _counter(defs.WORKER_RETRIES, registry)
        self.fence_lost = _counter(defs.WORKER_FENCE_LOST, registry)
        self.rebalances = _counter(defs.WORKER_REBALANCES, registry)
        self.in_flight_bytes = _gauge(defs.WORKER_IN_FLIGHT_BYTES, registry)
        self.buffered_records = _gauge(defs.WORKER_BUFFERED_RECORDS, registry)
        self.last_commit = _gauge(defs.WORKER_LAST_COMMIT, registry)
        self.kafka_errors = _counter(defs.WORKER_KAFKA_ERRORS, registry)

    def taken(self, lanes: Iterable[Lane]) -> None:
        """Count what came since the last call."""
        for lane in lanes:
            if lane.records:
                self.records.labels(lane.partition.topic).inc(lane.records)
                self.record_bytes.labels(lane.partition.topic).inc(lane.bytes)
                lane.records = lane.bytes = 0

    def committed(self, batch: PendingBatch, result: WriteResult, *, now: float, age: float) -> None:
        """One batch is in PostgreSQL. `now` is Unix time in seconds, `age` the seconds since its first
        record.
        """
        self.batches.inc()
        self.batch_events.observe(batch.records)
        self.batch_bytes.observe(batch.rows.nbytes)
        self.batch_age.observe(age)
        self.decode_seconds.observe(batch.decode_seconds)
        self.last_commit.set(now)
        self.database_up.set(1)
        self.event_delay.observe(max(0.0, now - batch.last.timestamp()[1] / 1000))
        for lane, counts in zip(batch.lanes, result.counts, strict=True):
            self._outcomes(lane.partition.topic, counts)
            self.placed(lane)

    def buffered(self, *batches: PendingBatch | None) -> None:
        """What is not yet committed: the batch that is written, if one is, and the one that fills."""
        held = [batch for batch in batches if batch is not None]
        self.buffered_records.set(sum(batch.records for batch in held))
        self.in_flight_bytes.set(sum(batch.nbytes for batch in held))

    def database_failed(self, sqlstate: str | None) -> None:
        """A transaction failed; 08 stands for a connection that never answered."""
        self.database_up.set(0)
        self.database_errors.labels((sqlstate or "08")[:2]).inc()

    def _outcomes(self, topic: str, counts: Mapping[Outcome, int]) -> None:
        for outcome, count in counts.items():
            if count:
                self.events.labels(topic, str(outcome)).inc(count)
        if conflicts := counts.get(Outcome.CONFLICT, 0):
            self.conflicts.labels(topic).inc(conflicts)

    def started(self, lane: Lane) -> None:
        """A partition is ours, with its counters: one that appears with its first count never rose, for
        Prometheus.
        """
        partition = lane.partition
        for outcome in Outcome:
            self.events.labels(partition.topic, str(outcome))
        self.conflicts.labels(partition.topic)
        self.partition_stopped.labels(partition.topic, str(partition.partition)).set(0)
        self.placed(lane)

    def placed(self, lane: Lane) -> None:
        """Where a partition stands, and where it ends."""
        labels = (lane.partition.topic, str(lane.partition.partition))
        self.position.labels(*labels).set(lane.position)
        self.end_offset.labels(*labels).set(max(lane.position, lane.end))
        self.lag.labels(*labels).set(max(0, lane.end - lane.position))

    def forgotten(self, partition: TopicPartition) -> None:
        """A partition is not ours any more: its series would go stale."""
        labels = (partition.topic, str(partition.partition))
        for gauge in (self.position, self.end_offset, self.lag, self.partition_stopped):
            with suppress(KeyError):
                gauge.remove(*labels)
