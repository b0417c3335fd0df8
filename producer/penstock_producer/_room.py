"""What happens while the buffer is full."""

import asyncio
import time

from penstock_producer._client import Client, Record
from penstock_producer._headers import Headers
from penstock_producer.delivery import Delivery
from penstock_producer.errors import BufferFull
from penstock_producer.settings import ProducerSettings

_LOOK_AGAIN = 0.02  # about as long as one request to a broker takes
_LOOK_AGAIN_ASYNC = 0.005


def offer_when_room(
    client: Client, record: Record, headers: Headers | None, settings: ProducerSettings
) -> Delivery:
    """Offer until there is room or the deadline has passed.

    Serves deliveries meanwhile, so that it may run in a done callback.
    """
    limit = _limit(settings)
    deadline = time.monotonic() + limit
    while True:
        client.make_room(min(_LOOK_AGAIN, limit))
        try:
            return client.offer(record, headers)
        except BufferError:
            if time.monotonic() >= deadline:
                raise _full(client, settings, limit) from None


async def offer_async(
    client: Client, record: Record, headers: Headers | None, settings: ProducerSettings
) -> Delivery:
    """The same without blocking the event loop; offers at once first."""
    limit = _limit(settings)
    deadline = time.monotonic() + limit
    while True:
        try:
            return client.offer(record, headers)
        except BufferError:
            if time.monotonic() >= deadline:
                raise _full(client, settings, limit) from None
        await asyncio.sleep(_LOOK_AGAIN_ASYNC)
        client.make_room(0)


def _limit(settings: ProducerSettings) -> float:
    return settings.block_timeout if settings.on_full == "block" else 0.0


def _full(client: Client, settings: ProducerSettings, waited: float) -> BufferFull:
    return BufferFull(
        f"{client.buffered():,} events wait for Kafka at {settings.bootstrap_servers}; the buffer is full "
        f"and no room "
        f"came within {waited:g} s. The event was not taken: emit it again later, emit less, or raise "
        f"buffer_events "
        "and buffer_bytes"
    )
