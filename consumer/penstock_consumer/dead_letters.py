"""The dead-letter topic: original bytes, key and headers, and the cause in the headers that Kafka Connect
writes.

A record that is too large for the topic goes as a reference: its coordinates as JSON instead of its value.
A crash between the acknowledgement and COMMIT leaves a second dead letter; its coordinates say that it is
the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock_consumer._kafka_config import dead_letter_config
from penstock_consumer._thread import OneThread
from penstock_consumer.errors import DeadLettersRefused, DeadLettersUnavailable
from penstock_consumer.interfaces import DeadLetter
from penstock_consumer.record_headers import UNREADABLE, Headers, read_headers
from penstock_consumer.settings import WorkerSettings
from penstock_schemas.client_errors import fatal_cause

__all__ = [
    "ATTEMPTS",
    "OWN",
    "PREFIX",
    "REASON",
    "REFERENCE",
    "TIMESTAMP",
    "TOPIC_ID",
    "KafkaDeadLetters",
    "headers_of",
    "is_cause",
]

PREFIX = "__connect.errors."
OWN = "penstock.dead_letter."
REASON = OWN + "reason"
TIMESTAMP = OWN + "timestamp"
"""Of the record, milliseconds since the Unix epoch; empty where it had none."""
TOPIC_ID = OWN + "topic_id"
REFERENCE = OWN + "reference"
"""Header of a dead letter whose value is the record's coordinates, as the record itself was too large."""
ATTEMPTS = "penstock.redrive.attempts"
"""Header of a redriven record: how often it was sent back. It stays with it into its next dead letter, a
reference too.
"""

_DEADLINE = 20.0  # seconds for a batch's dead letters to be acknowledged
_REFUSED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
_KEY_IN_REFERENCE = 4096
_COUNT = 9  # digits of a number of attempts
_MESSAGE = 2048  # characters of a cause's text


def is_cause(name: str) -> bool:
    """Whether a dead letter has this header, rather than its record."""
    return name.startswith((PREFIX, OWN))


def headers_of(letter: DeadLetter, group_id: str) -> Headers:
    """The cause, by Kafka Connect's names; the worker's group stands where Connect has its connector."""
    record = letter.record
    kind, timestamp = record.timestamp()
    cause = {
        PREFIX + "topic": record.topic(),
        PREFIX + "partition": str(record.partition()),
        PREFIX + "offset": str(record.offset()),
        PREFIX + "connector.name": group_id,
        PREFIX + "task.id": "0",
        PREFIX + "stage": letter.stage,
        PREFIX + "class.name": "penstock_consumer.engine.Engine",
        PREFIX + "exception.class.name": letter.exception,
        PREFIX + "exception.message": letter.message[:_MESSAGE],
        REASON: letter.reason,
        TIMESTAMP: str(timestamp) if kind else "",
        TOPIC_ID: letter.topic_id,
    }
    return [(name, value.encode(errors="replace")) for name, value in cause.items()]


def _original_headers(letter: DeadLetter) -> Headers:
    """Without the cause of an earlier failure: a dead letter has one."""
    return [
        (name, value)
        for name, value in read_headers(letter.record)
        if not is_cause(name) or name == UNREADABLE
    ]


def _attempts(letter: DeadLetter) -> Headers:
    """Without them a record that always becomes a reference could be sent back for ever."""
    return [
        (name, value)
        for name, value in read_headers(letter.record)
        if name == ATTEMPTS and len(value or b"") <= _COUNT
    ]


def _reference(letter: DeadLetter) -> bytes:
    record = letter.record
    where = {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "key_bytes": len(record.key() or b""),
        "value_bytes": len(record.value() or b""),
    }
    return json.dumps(where).encode()


class KafkaDeadLetters:
    """A `DeadLetterSink`. The producer is made with the first dead letter: most workers never need it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._thread = OneThread("dead-letters")
        self._producer: Producer | None = None

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink`."""
        await self._thread.run(self._send, letters)

    async def close(self) -> None:
        """Every `send` was acknowledged or raised, so nothing waits."""
        self._thread.close()
        self._producer = None

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        too_large = self._deliver([(letter, False) for letter in letters])
        # The broker refuses whole batches for their size: these go one by one, and as references at last.
        for letter in too_large:
            if self._deliver([(letter, False)]) and self._deliver([(letter, True)]):
                topic = self._settings.dead_letter_topic(letter.record.topic())
                raise DeadLettersUnavailable(
                    f"{topic} refuses even a reference for its size; "
                    "raise its max.message.bytes to that of the source topic and 64 KiB more"
                )

    def _deliver(self, letters: Sequence[tuple[DeadLetter, bool]]) -> list[DeadLetter]:
        """Produce and wait; returns those that are too large. Raises `DeadLettersUnavailable` for any other
        failure.
        """
        too_large: list[DeadLetter] = []
        failures: list[KafkaError] = []
        producer = self._open()
        deadline = time.monotonic() + _DEADLINE
        for letter, as_reference in letters:

            def settled(error: KafkaError | None, _: Message, letter: DeadLetter = letter) -> None:
                if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    too_large.append(letter)
                elif error is not None:
                    failures.append(error)

            try:
                self._produce(producer, letter, settled, deadline, as_reference=as_reference)
            except (KafkaException, SystemError) as error:
                settled(fatal_cause(error).args[0], None)  # type: ignore[arg-type]
        try:
            left = producer.flush(max(0.1, deadline - time.monotonic()))
        except (KafkaException, SystemError) as error:  # fatal, such as an idempotent producer's lost state
            left = len(producer)
            failures.append(fatal_cause(error).args[0])
        if failures or left:
            self._discard(producer)
            self._refuse(failures)
            raise DeadLettersUnavailable(
                "the dead-letter topic did not acknowledge: "
                + (failures[0].str() if failures else f"{left} records are still under way")
                + ". Nothing is committed before it does; check that the topic exists and may be written to"
            )
        return too_large

    def _refuse(self, failures: Sequence[KafkaError]) -> None:
        for error in failures:
            if error.code() in _REFUSED:
                topics = ", ".join(map(self._settings.dead_letter_topic, self._settings.topics))
                raise DeadLettersRefused(
                    f"Kafka refuses the worker's dead letters: {error.str()}. Nothing was committed. "
                    f"Grant WRITE and DESCRIBE on {topics} (and IDEMPOTENT_WRITE on the cluster, before "
                    "Kafka 3.0), then start the worker again"
                )

    def _produce(
        self, producer: Producer, letter: DeadLetter, settled: object, deadline: float, *, as_reference: bool
    ) -> None:
        record, cause = letter.record, headers_of(letter, self._settings.group_id)
        key, value = record.key(), record.value()
        if as_reference:
            key, value = (key if len(key or b"") <= _KEY_IN_REFERENCE else None), _reference(letter)
            headers = [*_attempts(letter), *cause, (REFERENCE, b"true")]
        else:
            headers = [*_original_headers(letter), *cause]
        topic = self._settings.dead_letter_topic(record.topic())
        while True:
            try:
                producer.produce(topic, value=value, key=key, headers=headers, on_delivery=settled)  # type: ignore[arg-type]
            except BufferError:
                if time.monotonic() > deadline:
                    raise DeadLettersUnavailable(f"{topic} takes dead letters too slowly") from None
                producer.poll(0.1)
            else:
                return

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(dead_letter_config(self._settings, _DEADLINE))
        return self._producer

    def _discard(self, producer: Producer) -> None:
        """A failed idempotent producer may be spent: the next attempt makes another."""
        producer.purge()
        with suppress(KafkaException, SystemError):
            producer.flush(1.0)
        self._producer = None
