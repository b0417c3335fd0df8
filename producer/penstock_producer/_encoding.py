"""From event to bytes, with patience for a schema registry that is away."""

import threading
import time
from concurrent.futures import Future

from penstock_producer.errors import InvalidSettings, RegistryTimedOut
from penstock_schemas import Event, EventPayload
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.errors import RegistryUnavailable
from penstock_schemas.registry import Registry, SchemaRegistry

__all__ = ["Encoding", "Registry"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Encoding:
    """One process's encoder. It asks the registry once per schema; then it needs no network."""

    def __init__(self, registry: Registry | None, url: str | None, timeout: float) -> None:
        if (registry is None) is (url is None):
            raise InvalidSettings(
                "give either registry or schema_registry_url: it says where the events' schemas are "
                "registered"
            )
        self._registry = registry
        self._url = url
        self._timeout = timeout
        self._encoder: EventEncoder | None = None
        self._known: set[tuple[str, type[EventPayload] | None]] = set()

    def knows(self, event: Event, topic: str) -> bool:
        """Whether such an event was encoded before (by `remember`): encoding it needs no network then."""
        return (topic, _kind(event)) in self._known

    def remember(self, event: Event, topic: str) -> None:
        """Such an event was encoded."""
        self._known.add((topic, _kind(event)))

    def encode(self, event: Event, topic: str) -> bytes:
        """The record's value. Raises `RegistryTimedOut` or what `EventEncoder.encode` raises."""
        encoder = self._encoder or self._make()
        try:
            return encoder.encode(event, topic)
        except RegistryUnavailable as error:
            raise RegistryTimedOut(
                f"the schema registry gave no answer within {self._timeout:g} s for an event of type "
                f"{event.event_type} "
                f"to topic {topic}: {error}. The event was not taken; check the registry, then emit the "
                f"event again"
            ) from error

    def forget(self) -> None:
        """In a forked child: connections to the registry stay with the parent."""
        self._encoder = None
        self._known = set()

    def _make(self) -> EventEncoder:
        registry = self._registry
        if registry is None:
            assert self._url is not None  # noqa: S101 - one of the two, checked when made
            registry = SchemaRegistry(self._url, timeout=self._timeout)
        self._encoder = EventEncoder(_Patient(registry, self._timeout))
        return self._encoder


class _Patient:
    """A registry that is asked again while it is away, until a total deadline.

    Each request has a thread of its own that is left behind at the deadline: an HTTP client's timeouts start
    anew with every byte that a server trickles.
    """

    def __init__(self, registry: Registry, timeout: float) -> None:
        self.schema = registry.schema
        self.is_compatible = registry.is_compatible
        self._registry = registry
        self._timeout = timeout

    def register(self, subject: str, schema: str) -> int:
        end = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._ask(subject, schema, end)
            except RegistryUnavailable:
                if time.monotonic() + pause >= end:
                    raise
            threading.Event().wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _ask(self, subject: str, schema: str, end: float) -> int:
        answer: Future[int] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._registry.register(subject, schema))
            except BaseException as error:  # the waiting thread's to raise
                answer.set_exception(error)

        threading.Thread(target=ask, name="penstock-registry", daemon=True).start()
        try:
            return answer.result(end - time.monotonic())
        except TimeoutError:
            raise RegistryUnavailable(f"its answer for {subject} was not complete in time") from None


def _kind(event: Event) -> type[EventPayload] | None:
    typed = event.typed_payload
    return None if typed is None else type(typed)
