"""Ingestion: from batches of decoded Kafka records to rows, with exactly-once effect."""

from penstock_store.ingest.batch import Batch, BatchPart
from penstock_store.ingest.model import FEWEST_BAD, Claim, Outcome, PartitionRef, Rejection, WriteResult
from penstock_store.ingest.settings import SinkSettings
from penstock_store.ingest.sink import PostgresSink

__all__ = [
    "FEWEST_BAD",
    "Batch",
    "BatchPart",
    "Claim",
    "Outcome",
    "PartitionRef",
    "PostgresSink",
    "Rejection",
    "SinkSettings",
    "WriteResult",
]
