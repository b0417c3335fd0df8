"""The Penstock worker: Kafka to PostgreSQL in batches, dead letters, replay."""

from penstock_consumer.errors import ConsumerError
from penstock_consumer.health import WorkerHealth
from penstock_consumer.settings import BatchLimits, WorkerSettings
from penstock_consumer.worker import ExitReason, run_worker

__all__ = ["BatchLimits", "ConsumerError", "ExitReason", "WorkerHealth", "WorkerSettings", "run_worker"]
