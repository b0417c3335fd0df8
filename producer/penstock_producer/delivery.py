"""The future of one emitted event."""

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock_producer.errors import DeliveryFailed, WrongProcess

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = ["Delivered", "Delivery"]

_log = getLogger("penstock_producer")
_FAILED = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Delivered(NamedTuple):
    """Where Kafka keeps the event."""

    topic: str
    partition: int
    offset: int | None
    """None where a retry was recognised as already stored and the broker did not say where."""
    timestamp: datetime | None
    """The record's time in UTC, milliseconds: the broker's on topics with LogAppendTime, else the client's.
    """


class DeliveryOwner(Protocol):
    """What a delivery needs of the client that made it."""

    pid: int

    def failure(self, error: "KafkaError", message: "Message") -> DeliveryFailed:
        """The failure to report, noted as one that nobody has looked at yet."""

    def seen(self, failure: DeliveryFailed) -> None:
        """Somebody has looked at `failure`."""


# Guards the lists of waiters of all deliveries; taken only by those who wait, never for an event nobody waits
# for.
_waiting = threading.Lock()


def _renew_lock() -> None:
    global _waiting
    _waiting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class Delivery:
    """The future of one event: `result()` from any thread, `await` from any event loop.

    It completes when Kafka has acknowledged the event, or at the latest after `delivery_timeout` with
    `DeliveryFailed`. A failure that nobody looks at is raised by the producer's next `flush` or `close`.
    """

    # One object per event and nothing beside it (the client calls the delivery itself, the answer is plain
    # integers): with 100,000 under way, each further object would be the garbage collector's to walk, again
    # and again.
    __slots__ = ("_failure", "_offset", "_owner", "_partition", "_time", "_topic", "_waiters")

    _failure: DeliveryFailed
    _offset: int
    _owner: DeliveryOwner
    _partition: int | None
    _time: int
    _topic: str
    _waiters: list[Callable[[], object]] | None

    def done(self) -> bool:
        """Whether Kafka has answered, well or not."""
        return self._partition is not None

    def result(self, timeout: float | None = None) -> Delivered:
        """Wait for the answer, at most `timeout` seconds.

        Raises `DeliveryFailed`, `TimeoutError` (the event is still under way) or `WrongProcess`.
        """
        failure = self.exception(timeout)
        if failure is not None:
            raise failure
        offset, time = self._offset, self._time
        return Delivered(
            self._topic,
            self._partition or 0,
            offset if offset >= 0 else None,
            _EPOCH + timedelta(milliseconds=time) if time >= 0 else None,
        )

    def exception(self, timeout: float | None = None) -> DeliveryFailed | None:
        """Wait as `result` does; the failure, or None where the event was delivered."""
        if self._partition is None:
            self._wait(timeout)
        if self._partition != _FAILED:
            return None
        self._owner.seen(self._failure)
        return self._failure

    def add_done_callback(self, callback: Callable[["Delivery"], object]) -> None:
        """Call `callback(delivery)` once Kafka has answered; at once where it has.

        It runs in the producer's poll thread or inside another `emit`: keep it short, take no lock that is
        held around `emit`. What it raises is logged.
        """

        def call() -> None:
            try:
                callback(self)
            except Exception:
                _log.exception("a done callback of a delivery to topic %s raised", self._topic)

        self._add_waiter(call)

    def __await__(self) -> Generator[Any, None, Delivered]:
        if self._partition is None:
            self._check_process()
            loop = asyncio.get_running_loop()
            answered = loop.create_future()

            def wake() -> None:
                try:
                    loop.call_soon_threadsafe(_complete, answered)
                except RuntimeError:  # the loop was closed: nobody waits any more
                    _log.debug("the event loop that waited for a delivery is closed")

            self._add_waiter(wake)
            yield from answered
        return self.result(0)

    def __call__(self, error: "KafkaError | None", message: "Message") -> None:
        """What the Kafka client calls with the broker's answer."""
        try:
            if error is None:
                self._offset = message.offset()  # type: ignore[assignment]
                self._time = message.timestamp()[1]
                self._partition = message.partition()  # last: it is what others look at
            else:
                self._failure = self._owner.failure(error, message)
                self._partition = _FAILED
        except SystemError:  # it calls with a fatal error pending, which ends the first call in here
            self(error, message)
            return
        if self._waiters is not None:
            self._wake()

    def refuse(self, failure: DeliveryFailed) -> None:
        """What the Kafka client calls for an event that it could not even take; nobody can wait yet."""
        self._failure = failure
        self._partition = _FAILED

    def _wait(self, timeout: float | None) -> None:
        self._check_process()
        gate = threading.Lock()
        gate.acquire()
        self._add_waiter(gate.release)
        gate.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        if self._partition is None:
            raise TimeoutError(f"no answer from Kafka for an event to topic {self._topic} within {timeout} s")

    def _add_waiter(self, waiter: Callable[[], object]) -> None:
        with _waiting:
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
        # `__call__` takes no lock: it may have looked for waiters before this one was there.
        if self._partition is not None:
            self._wake()

    def _wake(self) -> None:
        with _waiting:
            waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter()

    def _check_process(self) -> None:
        if os.getpid() != self._owner.pid:
            raise WrongProcess(
                f"process {self._owner.pid} emitted this event to topic {self._topic}, this is its child "
                f"{os.getpid()}: wait for deliveries in the process that emitted"
            )


def new_delivery(owner: DeliveryOwner, topic: str) -> Delivery:
    """The delivery of an event that is being handed to Kafka, for 0.6 of the price of an `__init__`."""
    delivery = Delivery()
    delivery._owner = owner
    delivery._topic = topic
    delivery._partition = None
    delivery._waiters = None
    return delivery


def _complete(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
