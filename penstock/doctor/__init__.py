"""`penstock doctor`: examine every component and say what to do."""

from penstock.doctor.database import examine_database
from penstock.doctor.kafka import examine_kafka
from penstock.doctor.registry import examine_registry
from penstock.doctor.report import Finding, Status, summary, worst
from penstock.doctor.worker import examine_workers
from penstock.kafka_view import KafkaView
from penstock.settings import Settings

__all__ = ["Finding", "Status", "examine", "summary", "worst"]


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which a record travels. Changes nothing, waits for no server longer than
    the settings' timeout.
    """
    view = KafkaView(settings.kafka(), timeout=settings.timeout_seconds)
    findings, cluster, topics = examine_kafka(view, settings.topics)
    findings += examine_registry(settings.registry(), timeout=settings.timeout_seconds)
    stored, migrated = await examine_database(settings)
    findings += stored
    if cluster is not None and migrated:
        findings += await examine_workers(settings, view, cluster, topics)
    return findings
