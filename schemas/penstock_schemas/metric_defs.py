"""Every metric of every process, in one place: name, kind, help, labels, buckets.

Dashboards, alerts and documentation name metrics from here, and a test holds them to it. Names are as
Prometheus shows them (a counter's ends in `_total`); times are seconds, sizes bytes. Nothing is imported
here, so that any process may import this.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "ALL",
    "BUILD_INFO",
    "PRODUCER",
    "PRODUCER_BUFFERED",
    "PRODUCER_DELIVERED",
    "PRODUCER_EMITTED",
    "PRODUCER_FAILED",
    "PROJECTION",
    "PROJECTION_EVENTS",
    "PROJECTION_LAG_EVENTS",
    "PROJECTION_LAG_SECONDS",
    "PROJECTION_POSITION",
    "PROJECTION_STOPPED",
    "RECONCILE",
    "RECONCILE_BALANCED",
    "RECONCILE_LAST_RUN",
    "RECONCILE_PROBLEMS",
    "RECONCILE_RECORDS",
    "RECONCILE_WAITING",
    "REGISTRY",
    "REGISTRY_REQUESTS",
    "REGISTRY_REQUEST_SECONDS",
    "REGISTRY_SCHEMAS",
    "RETENTION",
    "RETENTION_AHEAD",
    "RETENTION_DROPPED",
    "RETENTION_EXPIRED",
    "RETENTION_FAILURES",
    "RETENTION_LAST_RUN",
    "RETENTION_PARTITIONS",
    "RETENTION_RUN_SECONDS",
    "STORE",
    "STORE_APPENDED",
    "STORE_CALLS",
    "STORE_CALL_SECONDS",
    "STORE_CIRCUIT",
    "STORE_CIRCUIT_OPENED",
    "STORE_DUPLICATES",
    "STORE_ERRORS",
    "STORE_EVENTS",
    "STORE_LAST_SEQUENCE",
    "STORE_STORAGE_BYTES",
    "WORKER",
    "WORKER_BATCHES",
    "WORKER_BATCH_AGE",
    "WORKER_BATCH_BYTES",
    "WORKER_BATCH_EVENTS",
    "WORKER_BUFFERED_RECORDS",
    "WORKER_CONFLICTS",
    "WORKER_DATABASE_ERRORS",
    "WORKER_DATABASE_UP",
    "WORKER_DEAD_LETTERS",
    "WORKER_DECODE_SECONDS",
    "WORKER_END_OFFSET",
    "WORKER_EVENTS",
    "WORKER_EVENT_DELAY",
    "WORKER_FENCE_LOST",
    "WORKER_IN_FLIGHT_BYTES",
    "WORKER_KAFKA_ERRORS",
    "WORKER_LAG",
    "WORKER_LAST_COMMIT",
    "WORKER_LOST_OFFSETS",
    "WORKER_PARTITIONS",
    "WORKER_PARTITION_STOPPED",
    "WORKER_POSITION",
    "WORKER_REBALANCES",
    "WORKER_RECORDS",
    "WORKER_RECORD_BYTES",
    "WORKER_REGISTRY_ERRORS",
    "WORKER_RETRIES",
    "WORKER_WRITE_SECONDS",
    "Kind",
    "Metric",
]


class Kind(StrEnum):
    """The Prometheus types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `buckets` are upper bounds without +Inf, for histograms only."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind is Kind.COUNTER) is not self.name.endswith("_total"):
            raise ValueError(f"metric {self.name}: a counter's name ends in _total, and only a counter's")
        if (self.kind is Kind.HISTOGRAM) is not bool(self.buckets):
            raise ValueError(f"metric {self.name}: a histogram has buckets, and only a histogram")
        if (self.kind is Kind.INFO) is not self.name.endswith("_info"):
            raise ValueError(f"metric {self.name}: an info's name ends in _info, and only an info's")

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the series that a scrape shows."""
        if self.kind is Kind.HISTOGRAM:
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


_PARTITION = ("topic", "partition")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTS = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 50_000, 100_000)
_BYTES = (1_024, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 8_388_608, 16_777_216, 33_554_432, 67_108_864)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(kind=Kind.COUNTER, name=name, help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(kind=Kind.GAUGE, name=name, help=text, labels=labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(kind=Kind.HISTOGRAM, name=name, help=text, labels=labels, buckets=buckets)


BUILD_INFO = Metric(
    kind=Kind.INFO, name="penstock_build_info", help="What runs here.", labels=("version", "component")
)

WORKER_RECORDS = _counter("penstock_worker_records_total", "Records taken from Kafka.", "topic")
WORKER_RECORD_BYTES = _counter(
    "penstock_worker_record_bytes_total", "Bytes of the values taken from Kafka.", "topic"
)
WORKER_EVENTS = _counter(
    "penstock_worker_events_total",
    "Records accounted for in PostgreSQL, by outcome: stored, duplicate, conflict, dead_lettered, tombstone.",
    "topic",
    "outcome",
)
WORKER_DEAD_LETTERS = _counter(
    "penstock_worker_dead_letters_total",
    "Records sent to the dead-letter topic, by reason.",
    "topic",
    "reason",
)
WORKER_CONFLICTS = _counter(
    "penstock_worker_conflicts_total", "Events whose idempotency key is stored with another content.", "topic"
)
WORKER_BATCHES = _counter("penstock_worker_batches_total", "Batches committed.")
WORKER_BATCH_EVENTS = _histogram("penstock_worker_batch_events", "Records in a committed batch.", _COUNTS)
WORKER_BATCH_BYTES = _histogram("penstock_worker_batch_bytes", "Encoded bytes in a committed batch.", _BYTES)
WORKER_BATCH_AGE = _histogram(
    "penstock_worker_batch_age_seconds",
    "Age of a batch's first record in the worker when its transaction committed.",
    _SECONDS,
)
WORKER_DECODE_SECONDS = _histogram("penstock_worker_decode_seconds", "Time to decode one batch.", _SECONDS)
WORKER_WRITE_SECONDS = _histogram(
    "penstock_worker_write_seconds",
    "Time of the attempt that committed a batch: its dead letters, connecting, the transaction.",
    _SECONDS,
)
WORKER_POSITION = _gauge(
    "penstock_worker_position", "Next offset to ingest, as PostgreSQL holds it.", *_PARTITION
)
WORKER_END_OFFSET = _gauge(
    "penstock_worker_end_offset",
    "The partition's high watermark as last reported by the broker.",
    *_PARTITION,
)
WORKER_LAG = _gauge(
    "penstock_worker_lag",
    "Offsets between the position in PostgreSQL and the end of the partition.",
    *_PARTITION,
)
WORKER_EVENT_DELAY = _histogram(
    "penstock_worker_event_delay_seconds",
    "Time from the broker's timestamp of a batch's last record to its commit in PostgreSQL.",
    (*_SECONDS, 60.0, 300.0, 3_600.0),
)
WORKER_PARTITIONS = _gauge(
    "penstock_worker_partitions",
    "Partitions of this worker by state: assigned, paused (of the assigned), pending, stopped.",
    "state",
)
WORKER_PARTITION_STOPPED = _gauge(
    "penstock_worker_partition_stopped",
    "1 where a partition waits for an operator: offsets were lost, or its log is damaged.",
    *_PARTITION,
)
WORKER_LOST_OFFSETS = _counter(
    "penstock_worker_lost_offsets_total",
    "Offsets that the broker no longer had and an operator accepted as lost.",
    *_PARTITION,
)
WORKER_DATABASE_UP = _gauge(
    "penstock_worker_database_up", "1 while PostgreSQL takes batches, 0 while the worker waits for it."
)
WORKER_DATABASE_ERRORS = _counter(
    "penstock_worker_database_errors_total",
    "Failed transactions, by class of SQLSTATE (08, 40, 42, 53, 57, …).",
    "sqlstate_class",
)
WORKER_REGISTRY_ERRORS = _counter(
    "penstock_worker_registry_errors_total",
    "Schema look-ups that the registry did not answer; each is tried again.",
)
WORKER_RETRIES = _counter(
    "penstock_worker_retries_total", "Attempts repeated, by what was tried.", "operation"
)
WORKER_FENCE_LOST = _counter(
    "penstock_worker_fence_lost_total", "Batches refused because another worker owns the partition.", "topic"
)
WORKER_REBALANCES = _counter(
    "penstock_worker_rebalances_total", "Changes of assignment, by kind: assigned, revoked, lost.", "kind"
)
WORKER_IN_FLIGHT_BYTES = _gauge(
    "penstock_worker_in_flight_bytes", "Bytes of records held in memory, not yet committed."
)
WORKER_BUFFERED_RECORDS = _gauge("penstock_worker_buffered_records", "Records decoded and not yet committed.")
WORKER_LAST_COMMIT = _gauge(
    "penstock_worker_last_commit_timestamp_seconds", "Unix time of the last committed batch."
)
WORKER_KAFKA_ERRORS = _counter(
    "penstock_worker_kafka_errors_total", "Errors reported by the Kafka client, by its code.", "code"
)

WORKER = (
    WORKER_RECORDS,
    WORKER_RECORD_BYTES,
    WORKER_EVENTS,
    WORKER_DEAD_LETTERS,
    WORKER_CONFLICTS,
    WORKER_BATCHES,
    WORKER_BATCH_EVENTS,
    WORKER_BATCH_BYTES,
    WORKER_BATCH_AGE,
    WORKER_DECODE_SECONDS,
    WORKER_WRITE_SECONDS,
    WORKER_POSITION,
    WORKER_END_OFFSET,
    WORKER_LAG,
    WORKER_EVENT_DELAY,
    WORKER_PARTITIONS,
    WORKER_PARTITION_STOPPED,
    WORKER_LOST_OFFSETS,
    WORKER_DATABASE_UP,
    WORKER_DATABASE_ERRORS,
    WORKER_REGISTRY_ERRORS,
    WORKER_RETRIES,
    WORKER_FENCE_LOST,
    WORKER_REBALANCES,
    WORKER_IN_FLIGHT_BYTES,
    WORKER_BUFFERED_RECORDS,
    WORKER_LAST_COMMIT,
    WORKER_KAFKA_ERRORS,
)

PRODUCER_EMITTED = _counter("penstock_producer_emitted_total", "Events accepted by emit().", "topic")
PRODUCER_DELIVERED = _counter(
    "penstock_producer_delivered_total", "Events acknowledged by all in-sync replicas.", "topic"
)
PRODUCER_FAILED = _counter(
    "penstock_producer_failed_total", "Events not delivered, by error code.", "topic", "code"
)
PRODUCER_BUFFERED = _gauge("penstock_producer_buffered", "Events emitted and not yet acknowledged.")

PRODUCER = (
    PRODUCER_EMITTED,
    PRODUCER_DELIVERED,
    PRODUCER_FAILED,
    PRODUCER_BUFFERED,
)

RETENTION_PARTITIONS = _gauge(
    "penstock_retention_partitions",
    "Partitions of events by state: future, current, closed, expired.",
    "state",
)
RETENTION_DROPPED = _counter("penstock_retention_dropped_partitions_total", "Partitions dropped by policy.")
RETENTION_EXPIRED = _counter(
    "penstock_retention_expired_events_total", "Events that went with dropped partitions."
)
RETENTION_LAST_RUN = _gauge(
    "penstock_retention_last_run_timestamp_seconds", "Unix time of the last run that succeeded."
)
RETENTION_RUN_SECONDS = _histogram("penstock_retention_run_seconds", "Time of one run.", _SECONDS)
RETENTION_FAILURES = _counter(
    "penstock_retention_failures_total", "Runs that failed; the next one tries again."
)
RETENTION_AHEAD = _gauge(
    "penstock_retention_ahead_seconds", "How far ahead of the clock the last future partition ends."
)

RETENTION = (
    RETENTION_PARTITIONS,
    RETENTION_DROPPED,
    RETENTION_EXPIRED,
    RETENTION_LAST_RUN,
    RETENTION_RUN_SECONDS,
    RETENTION_FAILURES,
    RETENTION_AHEAD,
)

RECONCILE_BALANCED = _gauge(
    "penstock_reconcile_balanced", "1 where the last reconciliation balanced, 0 where it did not."
)
RECONCILE_PROBLEMS = _gauge("penstock_reconcile_problems", "Problems that the last reconciliation named.")
RECONCILE_RECORDS = _gauge(
    "penstock_reconcile_records", "Records accounted for by outcome, as last reconciled.", "topic", "outcome"
)
RECONCILE_WAITING = _gauge(
    "penstock_reconcile_waiting", "Records that no worker had come to when last reconciled.", "topic"
)
RECONCILE_LAST_RUN = _gauge(
    "penstock_reconcile_last_run_timestamp_seconds", "Unix time of the last reconciliation."
)

RECONCILE = (
    RECONCILE_BALANCED,
    RECONCILE_PROBLEMS,
    RECONCILE_RECORDS,
    RECONCILE_WAITING,
    RECONCILE_LAST_RUN,
)

_PROJECTION = ("projection",)

PROJECTION_EVENTS = _counter("penstock_projection_events_total", "Events that were folded.", *_PROJECTION)
PROJECTION_POSITION = _gauge(
    "penstock_projection_position", "Sequence up to which everything is folded.", *_PROJECTION
)
PROJECTION_LAG_EVENTS = _gauge(
    "penstock_projection_lag_events",
    "Sequences between the position and the newest event; 0 where no event waits.",
    *_PROJECTION,
)
PROJECTION_LAG_SECONDS = _gauge(
    "penstock_projection_lag_seconds",
    "Age of the oldest event that is not folded; 0 where none waits.",
    *_PROJECTION,
)
PROJECTION_STOPPED = _gauge(
    "penstock_projection_stopped", "1 where a handler's fault stopped the projection.", *_PROJECTION
)

PROJECTION = (
    PROJECTION_EVENTS,
    PROJECTION_POSITION,
    PROJECTION_LAG_EVENTS,
    PROJECTION_LAG_SECONDS,
    PROJECTION_STOPPED,
)

REGISTRY_REQUESTS = _counter(
    "penstock_registry_requests_total",
    "Requests to the registry endpoint, by route and HTTP status.",
    "route",
    "status",
)
REGISTRY_REQUEST_SECONDS = _histogram(
    "penstock_registry_request_seconds", "Time to answer a request.", _SECONDS, "route"
)
REGISTRY_SCHEMAS = _gauge("penstock_registry_schemas", "Schemas registered.")

REGISTRY = (REGISTRY_REQUESTS, REGISTRY_REQUEST_SECONDS, REGISTRY_SCHEMAS)

STORE_APPENDED = _counter("penstock_store_appended_total", "Events stored by this process.", "backend")
STORE_DUPLICATES = _counter(
    "penstock_store_duplicates_total", "Events appended whose key was stored already.", "backend"
)
STORE_ERRORS = _counter("penstock_store_errors_total", "Calls of the event store that raised.", "backend")
STORE_CALLS = _counter(
    "penstock_store_calls_total", "Calls of the event store: append, query.", "backend", "operation"
)
STORE_CALL_SECONDS = _gauge(
    "penstock_store_call_seconds",
    "Percentiles of the time of the latest 1,024 calls of a kind.",
    "backend",
    "operation",
    "quantile",
)
STORE_CIRCUIT = _gauge(
    "penstock_store_circuit",
    "1 at the state of the circuit breaker: closed, open (calls fail at once), half_open.",
    "backend",
    "state",
)
STORE_CIRCUIT_OPENED = _counter(
    "penstock_store_circuit_opened_total", "How often the server was given up for a while.", "backend"
)
STORE_EVENTS = _gauge("penstock_store_events", "Events that the store holds.", "backend")
STORE_STORAGE_BYTES = _gauge("penstock_store_storage_bytes", "Bytes on disk, indexes included.", "backend")
STORE_LAST_SEQUENCE = _gauge("penstock_store_last_sequence", "The highest sequence to be seen.", "backend")

STORE = (
    STORE_APPENDED,
    STORE_DUPLICATES,
    STORE_ERRORS,
    STORE_CALLS,
    STORE_CALL_SECONDS,
    STORE_CIRCUIT,
    STORE_CIRCUIT_OPENED,
    STORE_EVENTS,
    STORE_STORAGE_BYTES,
    STORE_LAST_SEQUENCE,
)

ALL = (BUILD_INFO, *WORKER, *PRODUCER, *RETENTION, *RECONCILE, *PROJECTION, *REGISTRY, *STORE)
