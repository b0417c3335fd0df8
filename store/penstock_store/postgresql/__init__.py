"""The production backend: reads of `penstock.events`. Ingestion from Kafka is `penstock_store.ingest`."""

from penstock_store.postgresql.reader import PostgresEventStore
from penstock_store.postgresql.reader_settings import ReaderSettings

__all__ = ["PostgresEventStore", "ReaderSettings"]
