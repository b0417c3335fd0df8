"""The settings of the sink's two sessions, each with its reason."""

from __future__ import annotations

from typing import Final

from penstock_store.ingest._link import Link
from penstock_store.ingest.settings import SinkSettings

__all__ = ["control_link", "writer_link"]

_BOTH: Final = {
    "timezone": "UTC",
    # A client that vanished is noticed within half a minute, also in the middle of a statement.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "5s",
}
# Probes are one index look-up a key. What the planner knows of a partition that fills up is always out of
# date, and a sequential scan or a hash of ten million rows for ten thousand keys would be its idea of cheap.
_PROBES: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


def writer_link(settings: SinkSettings) -> Link:
    """Writes batches and nothing else, so that a claim may end its backend."""
    milliseconds = str(int(settings.write_timeout * 1000))
    return _link(
        settings,
        "write",
        _PROBES
        | {
            # Waits inside the server end before the client's deadline does, with an answer.
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "lock_timeout": str(int(settings.call_timeout * 1000)),
        },
    )


def control_link(settings: SinkSettings) -> Link:
    """Claims, evictions, the published mark, rolls."""
    milliseconds = str(int(settings.call_timeout * 1000))
    return _link(
        settings,
        "control",
        {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds},
    )


def _link(settings: SinkSettings, purpose: str, extra: dict[str, str]) -> Link:
    # PostgreSQL cuts names at 63 bytes.
    name = f"penstock {purpose} {settings.worker_name}"[:63]
    return Link(
        settings.dsn.get_secret_value(),
        connect_timeout=settings.connect_timeout,
        server_settings=_BOTH | extra | {"application_name": name},
    )
