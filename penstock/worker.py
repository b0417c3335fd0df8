"""The worker process: settings into Kafka, PostgreSQL and registry clients, then the consumer's own loop."""

import os
import socket
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

import structlog

from penstock.errors import SettingsError
from penstock.metrics import process_registry
from penstock.processes import serving
from penstock.redaction import redact
from penstock.settings import DatabaseRole, Settings
from penstock_consumer import BatchLimits, WorkerHealth, WorkerSettings, run_worker
from penstock_schemas.registry import AsyncSchemaSource
from penstock_store.ingest import SinkSettings

__all__ = ["WorkerChoices", "ingest", "say_defaults", "worker_settings"]

log = structlog.get_logger(__name__)
_SERVERS = (("kafka_bootstrap_servers",), ("worker_database_url", "database_url"), ("schema_registry_url",))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChoices:
    """What only the command line says, in `WorkerSettings` words; None: its default. Times are seconds."""

    batch_size: int | None = None
    linger: float | None = None
    start: Literal["earliest", "latest"] = "earliest"
    conflicts: Literal["dead_letter", "report"] = "dead_letter"
    partitions: int = 6
    replication: int | None = None
    create_topics: bool = True
    accept_loss: tuple[str, ...] = ()
    dead_letter_share: float = 0.5


def worker_settings(settings: Settings, choices: WorkerChoices) -> WorkerSettings:
    """What `run_worker` is told. Raises `SettingsError`."""
    try:
        return WorkerSettings(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            topics=settings.topics,
            group_id=settings.group_id,
            kafka=settings.kafka_config,
            batch=_batch(choices),
            start=choices.start,
            conflicts=choices.conflicts,
            accept_loss=frozenset(choices.accept_loss),
            dead_letter_share=choices.dead_letter_share,
            create_topics=choices.create_topics,
            partitions=choices.partitions,
            replication=choices.replication,
        )
    except ValueError as error:
        raise SettingsError(redact(str(error))) from None


def _batch(choices: WorkerChoices) -> BatchLimits:
    limits = BatchLimits()
    if choices.batch_size is not None:
        limits = replace(limits, records=choices.batch_size)
    if choices.linger is not None:
        limits = replace(limits, linger=choices.linger, age=max(choices.linger, limits.age))
    return limits


def say_defaults(settings: Settings) -> None:
    """A worker waits for servers that are away for ever: say at once where nobody told it which."""
    unnamed = [names[-1] for names in _SERVERS if settings.model_fields_set.isdisjoint(names)]
    if unnamed:
        addresses = settings.shown()
        log.warning(
            "default_addresses",
            **{name: addresses[name] for name in unnamed},
            advice="no running stack and no setting names these: start some (penstock up) or name yours",
        )


async def ingest(settings: Settings, choices: WorkerChoices, metrics_port: int | None) -> None:
    """Run until SIGTERM or SIGINT. Raises `ConsumerError` where going on makes no sense."""
    worker = worker_settings(settings, choices)
    sink = SinkSettings(
        dsn=settings.database(DatabaseRole.WORKER),
        group_id=settings.group_id,
        worker_name=f"{socket.gethostname()}:{os.getpid()}",
        dedupe_window=timedelta(hours=settings.dedupe_window_hours),
        connect_timeout=settings.timeout_seconds,
    )
    say_defaults(settings)
    from penstock_schemas.registry import SchemaRegistry  # half a second that only this run needs

    schemas = SchemaRegistry(settings.registry(), timeout=settings.timeout_seconds)
    registry, health = process_registry("worker"), WorkerHealth(time.monotonic)
    live, ready = {"worker": health.live}, {"ingestion": health.ready}
    try:
        async with serving(registry, live=live, ready=ready, host=settings.metrics_host, port=metrics_port):
            await run_worker(
                worker,
                sink=sink,
                schemas=AsyncSchemaSource(schemas, deadline=settings.timeout_seconds),
                registry=registry,
                health=health,
            )
    finally:
        schemas.close()
