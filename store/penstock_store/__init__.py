"""The Penstock event store: append, ordered reads, ingestion with exactly-once effect, retention."""
