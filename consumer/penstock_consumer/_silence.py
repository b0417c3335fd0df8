"""Why a broker does not answer: librdkafka knows it long before the request that only times out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

__all__ = ["Reasons", "listening"]

_SILENCE = 2.5  # seconds after which a person wants to know what is waited for
_LISTEN_EVERY = 0.1


class Reasons:
    """A client's `error_cb` that keeps the last reason."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, error: KafkaError) -> None:
        """Keep it; that all brokers are down is a consequence, never the reason."""
        if not self.last or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error.str().partition(" (after ")[0]


@contextlib.asynccontextmanager
async def listening(
    admin: AdminClient, reasons: Reasons, where: str, deadline: float, tell: Callable[[str], None]
) -> AsyncIterator[None]:
    """Serve the client's error callback, and `tell` once when the block takes longer than a short while."""

    async def listen() -> None:
        told, ends = False, asyncio.get_running_loop().time() + _SILENCE
        while True:
            admin.poll(0)
            if not told and asyncio.get_running_loop().time() >= ends:
                told = True
                because = f" ({reasons.last})" if reasons.last else ""
                tell(f"{where} is not answering{because}; it is tried for {deadline:g} s in all.")
            await asyncio.sleep(_LISTEN_EVERY)

    listener = asyncio.create_task(listen())
    try:
        yield
    finally:
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener
