"""How a reader connects and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penstock_store.driver import SESSION
from penstock_store.dsn import normalise_dsn
from penstock_store.read_errors import InvalidQuery

__all__ = ["ReaderSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """Times are seconds; each bounds one wait. Raises `InvalidDsn` or `InvalidQuery` when made.

    The login needs the role `penstock_reader`, no more.
    """

    dsn: str = field(repr=False)  # holds a password
    pool_size: int = 4  # connections at most; more callers than that wait for `acquire_timeout`
    connect_timeout: float = 5.0
    acquire_timeout: float = 10.0
    command_timeout: float = 30.0  # one statement; then its connection is ended, not cancelled politely
    call_timeout: float = 60.0  # one call as a whole, what it repeats included; of a stream: one chunk
    close_timeout: float = 5.0
    attempts: int = 3  # of one statement when a connection is lost; reads can be repeated safely
    breaker_failures: int = 5  # connections lost or refused in a row, after which calls fail at once
    breaker_pause: float = 1.0  # until one call looks whether the server is back; doubled, up to 10 s
    stream_chunk: int = 2_000  # events; a stream holds two chunks. Larger ones gain nothing: caches
    poll_interval: float = 1.0  # a live reader looks at least this often, notified or not
    listen: bool = True  # False behind PgBouncer in transaction mode, which has no LISTEN: polling does
    application_name: str = "penstock-reader"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dsn", normalise_dsn(self.dsn))
        for name in (
            "connect_timeout",
            "acquire_timeout",
            "command_timeout",
            "call_timeout",
            "close_timeout",
            "breaker_pause",
            "poll_interval",
        ):
            value = getattr(self, name)
            if not 0 < value <= 86_400:
                raise InvalidQuery(f"{name} must be more than 0 and at most 86,400 seconds; got {value!r}.")
        for name, most in (
            ("pool_size", 1_000),
            ("attempts", 100),
            ("breaker_failures", 1_000),
            ("stream_chunk", 100_000),
        ):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InvalidQuery(f"{name} must be from 1 to {most:,}; got {value!r}.")

    def connection_options(self) -> dict[str, Any]:
        """Arguments of `asyncpg.connect`. Session settings that travel with the start-up cost no round
        trip.
        """
        return {
            "dsn": self.dsn,
            "timeout": self.connect_timeout,
            "server_settings": SESSION
            | {
                "application_name": self.application_name,
                "default_transaction_read_only": "on",
                "jit": "off",  # compiling a plan over many partitions takes longer than running it
                # The catalogue has pruned already: proving it again from CHECKs costs planning time.
                "constraint_exclusion": "off",
                "plan_cache_mode": "force_custom_plan",  # a generic plan prunes no partition by sequence
                # Where our own deadline does not reach the server, it must not work on for nobody.
                "statement_timeout": str(round(self.command_timeout * 1_000) + 1_000),
            },
        }
