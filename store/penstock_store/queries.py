"""Reading the store, in one import: options, pages, the contract, and PostgreSQL's implementation of it."""

from penstock_store.contract import (
    DEFAULT_PAGE,
    MAX_OFFSET,
    MAX_PAGE,
    EventReader,
    OrderBy,
    Page,
    QueryOptions,
)
from penstock_store.postgresql import PostgresEventStore, ReaderSettings
from penstock_store.read_errors import InvalidQuery, ReadError, StoreRefused, StoreUnavailable

__all__ = [
    "DEFAULT_PAGE",
    "MAX_OFFSET",
    "MAX_PAGE",
    "EventReader",
    "InvalidQuery",
    "OrderBy",
    "Page",
    "PostgresEventStore",
    "QueryOptions",
    "ReadError",
    "ReaderSettings",
    "StoreRefused",
    "StoreUnavailable",
]
