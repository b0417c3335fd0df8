"""Patience for a schema registry that is away."""

import threading
import time
from concurrent.futures import Future

from penstock_producer.errors import InvalidSettings, RegistryTimedOut
from penstock_schemas import Event
from penstock_schemas.errors import RegistryUnavailable
from penstock_schemas.registry import Registry, SchemaRegistry

__all__ = ["PatientRegistry", "Registry", "timed_out"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class PatientRegistry:
    """A registry that is asked again while it is away, until a total deadline.

    Each request has a thread of its own that is left behind at the deadline: an HTTP client's timeouts start
    anew with every byte that a server trickles.
    """

    def __init__(self, registry: Registry | None, url: str | None, timeout: float) -> None:
        if (registry is None) is (url is None):
            raise InvalidSettings(
                "give either registry or schema_registry_url: it says where the events' schemas are "
                "registered"
            )
        self._url = url
        self._timeout = timeout
        self._registry = registry

    def forget(self) -> None:
        """In a forked child: connections to the registry stay with the parent."""
        if self._url is not None:
            self._registry = None

    def schema(self, schema_id: int) -> str:
        return self._asked().schema(schema_id)

    def is_compatible(self, subject: str, schema: str) -> bool:
        return self._asked().is_compatible(subject, schema)

    def register(self, subject: str, schema: str) -> int:
        end = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._register_by(subject, schema, end)
            except RegistryUnavailable:
                if time.monotonic() + pause >= end:
                    raise
            threading.Event().wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _register_by(self, subject: str, schema: str, end: float) -> int:
        registry = self._asked()
        answer: Future[int] = Future()

        def ask() -> None:
            try:
                answer.set_result(registry.register(subject, schema))
            except BaseException as error:  # the waiting thread's to raise
                answer.set_exception(error)

        threading.Thread(target=ask, name="penstock-registry", daemon=True).start()
        try:
            return answer.result(end - time.monotonic())
        except TimeoutError:
            raise RegistryUnavailable(f"its answer for {subject} was not complete in time") from None

    def _asked(self) -> Registry:
        registry = self._registry
        if registry is None:
            assert self._url is not None  # noqa: S101 - one of the two, checked when made
            registry = self._registry = SchemaRegistry(self._url, timeout=self._timeout)
        return registry


def timed_out(error: RegistryUnavailable, event: Event, topic: str, waited: float) -> RegistryTimedOut:
    """What it means for the event that the registry was away for so long."""
    return RegistryTimedOut(
        f"the schema registry gave no answer within {waited:g} s for an event of type {event.event_type} to "
        f"topic {topic}: {error}. The event was not taken; check the registry, then emit the event again"
    )
