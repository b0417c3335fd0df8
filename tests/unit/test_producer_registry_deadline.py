"""The registry's deadline is total: a server that trickles its answer cannot hold a producer."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from penstock_producer import Producer
from penstock_producer.errors import RegistryTimedOut
from penstock_schemas import Event

TRICKLES_FOR = 20.0
"""Seconds: far beyond the deadline under test, but an end for a client without one."""


@pytest.fixture
def trickling() -> Iterator[str]:
    """The address of a server that promises a long body and sends a byte of it every now and then."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                end = time.monotonic() + TRICKLES_FOR
                while time.monotonic() < end and not stop.wait(0.02):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_trickling_registry_is_given_up_at_the_deadline(trickling: str) -> None:
    with Producer(
        "127.0.0.1:1", topic="events", schema_registry_url=trickling, registry_timeout=0.3
    ) as producer:
        started = time.monotonic()
        with pytest.raises(RegistryTimedOut, match=r"within 0\.3 s .*not complete in time"):
            producer.emit(Event(event_type="parcel.collected", entity_id="PX-1"))
        assert time.monotonic() - started < TRICKLES_FOR / 4
        assert producer.stats.emitted == 0
