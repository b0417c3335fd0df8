"""What asyncpg raises for what a server or a network did, and what every session is told."""

from __future__ import annotations

from typing import Final

import asyncpg

__all__ = ["DRIVER_ERRORS", "LINK_ERRORS", "SESSION"]

# In one place, as part of it is easily forgotten.
LINK_ERRORS: Final = (
    asyncpg.InterfaceError,
    # A server that shuts down says so between two calls; the next one finds asyncpg in a state it never left.
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    TimeoutError,
)
"""The connection is gone or in no state to be used."""

DRIVER_ERRORS: Final = (asyncpg.PostgresError, *LINK_ERRORS)
"""Those, and what the server said by SQLSTATE."""

SESSION: Final = {"default_transaction_isolation": "read committed"}
"""Server settings of every connection. What waited for a lock has to see what its holder did: with a snapshot
of before, an append behind a roll writes into the partition that the roll closed.
"""
