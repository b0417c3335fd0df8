"""Sending dead letters back, and putting them aside: each in a Kafka transaction with the mark that says so.

So a record is redriven once, whatever ends the command and however often it is run: the records and the
marks of a transaction are there together or not at all. The transactional id is the dead-letter topic's:
a second command for the same topic ends the first, and aborts what that left open, before it reads the
marks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock_consumer._kafka_config import redrive_config
from penstock_consumer.bounded import read, watermarks
from penstock_consumer.dead_letters import is_cause
from penstock_consumer.dlq.letters import ATTEMPTS, MARK, REDRIVEN_FROM, Letter, Mark, State
from penstock_consumer.dlq.queue import DeadLetterQueue
from penstock_consumer.dlq.selection import Selection
from penstock_consumer.errors import RedriveInterrupted, SourceFailed, SourceUnavailable, TopicMismatch
from penstock_consumer.interfaces import Record
from penstock_consumer.record_headers import read_headers
from penstock_schemas.client_errors import fatal_cause

__all__ = ["CAPPED", "GONE", "TOO_LARGE", "Report", "Tell", "discard", "redrive"]

CAPPED = "attempts"
"""Sent back as often as is allowed."""
GONE = "gone"
"""Too large for the dead-letter topic, which holds its coordinates only, and expired from its own."""
TOO_LARGE = "too_large"
"""Its topic does not take it any more."""

_TRANSACTION = 20.0  # seconds; workers do not see what follows a transaction that is open
_SEEN = 3.0  # seconds; other producers' open transactions may hide what was written for longer
_LOOK = 0.02
_RECORDS = 500  # of one transaction at most
_BYTES = 8 << 20
_REFUSED = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
})  # fmt: skip
_FENCED = frozenset({
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
})  # fmt: skip

Tell = Callable[[Letter, str | None], None]
"""Told of each dead letter that was meant, without its value: None once it is done, or why it is left."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a redrive or discard did, or would do."""

    done: int = 0
    left: Counter[str] = field(default_factory=Counter)
    """Meant, and open still: by `CAPPED`, `GONE`, `TOO_LARGE`."""


def _unheard(_letter: Letter, _why: str | None) -> None:
    pass


def redrive(
    queue: DeadLetterQueue,
    selection: Selection,
    *,
    max_attempts: int = 3,
    limit: int | None = None,
    dry_run: bool = False,
    tell: Tell = _unheard,
) -> Report:
    """Send the open ones of `selection` back to their topic: same bytes, key, headers and partition.

    One that was sent back `max_attempts` times before is left; so is one whose record is gone or too large.
    Raises `SourceUnavailable`, `SourceFailed`, `TopicMismatch` where the source topic is gone,
    `RedriveInterrupted` where another command took over: in every case what was told stays done, and the
    same call again does the rest.
    """
    if max_attempts < 1:
        raise ValueError("max_attempts must be at least 1")
    ends = watermarks(queue.settings, queue.topic)
    if ends is None:
        raise TopicMismatch(
            f"topic {queue.topic} does not exist, so there is nothing to send its dead letters back to"
        )
    run = _Run(queue, tell, partitions=set(ends), dry_run=dry_run)
    return run.do(run.sendable(run.open_ones(selection), max_attempts), limit, State.REDRIVEN, "")


def discard(
    queue: DeadLetterQueue,
    selection: Selection,
    *,
    reason: str,
    limit: int | None = None,
    dry_run: bool = False,
    tell: Tell = _unheard,
) -> Report:
    """Mark the open ones of `selection` as discarded; they stay where they are. Raises as `redrive`."""
    if not reason.strip():
        raise ValueError("a discard needs a reason")
    run = _Run(queue, tell, partitions=set(), dry_run=dry_run)
    return run.do(run.open_ones(selection), limit, State.DISCARDED, reason.strip())


class _Run:
    """One command."""

    def __init__(self, queue: DeadLetterQueue, tell: Tell, *, partitions: set[int], dry_run: bool) -> None:
        self._queue = queue
        self._partitions = partitions
        self._tell = tell
        self._report = Report()
        self._written: dict[tuple[str, int], int] = {}  # the last offset of each partition
        self._id = f"penstock-redrive-{queue.name}"
        # Before anything is read: it ends another command, whose last marks are then there to be read.
        self._producer = None if dry_run or not queue.exists() else self._open()

    def open_ones(self, selection: Selection) -> Iterator[Letter]:
        return self._queue.letters(replace(selection, states=(State.OPEN,)))

    def sendable(self, letters: Iterable[Letter], max_attempts: int) -> Iterator[Letter]:
        for letter in letters:
            if letter.attempts >= max_attempts:
                self._leave(letter, CAPPED)
            elif not letter.reference:
                yield letter
            elif (original := self._original(letter)) is not None:
                yield original
            else:
                self._leave(letter, GONE)

    def do(self, letters: Iterator[Letter], limit: int | None, state: State, reason: str) -> Report:
        for batch in _batches(islice(letters, limit)):
            self._commit(batch, state, reason)
        self._wait_until_seen()
        return self._report

    def _wait_until_seen(self) -> None:
        """The broker ends a transaction a moment after it said so: who lists next is to find the marks."""
        deadline = time.monotonic() + _SEEN
        with suppress(SourceUnavailable, SourceFailed):
            for topic in {topic for topic, _ in self._written}:
                last = {number: offset for (name, number), offset in self._written.items() if name == topic}
                while time.monotonic() < deadline:
                    ends = watermarks(self._queue.settings, topic) or {}
                    if all(ends.get(number, (0, 0))[1] > offset for number, offset in last.items()):
                        break
                    time.sleep(_LOOK)

    def _note(self, error: KafkaError | None, message: Message) -> None:
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if error is None and topic is not None and number is not None and offset is not None:
            self._written[topic, number] = offset

    def _leave(self, letter: Letter, why: str) -> None:
        self._report.left[why] += 1
        self._tell(replace(letter, value=b""), why)

    def _original(self, letter: Letter) -> Letter | None:
        """The record itself, from where it was, if it is there still."""
        topic, number, offset = letter.place.topic, letter.place.partition, letter.place.offset
        low, high = (watermarks(self._queue.settings, topic) or {}).get(number, (0, 0))
        if not low <= offset < high:
            return None
        for records in read(self._queue.settings, topic, {number: (offset, offset + 1)}):
            for record in records:
                if _same(record, letter):
                    headers = tuple(pair for pair in read_headers(record) if not is_cause(pair[0]))
                    return replace(letter, key=record.key(), value=record.value() or b"", headers=headers)
        return None

    def _commit(self, letters: Sequence[Letter], state: State, reason: str) -> None:
        """One transaction; one each where the broker refuses the size, which may be that of many together."""
        if self._producer is not None and not self._transaction(self._producer, letters, state, reason):
            if len(letters) == 1:
                self._leave(letters[0], TOO_LARGE)
                return
            for letter in letters:
                self._commit([letter], state, reason)
            return
        for letter in letters:
            self._report.done += 1
            self._tell(replace(letter, value=b"", state=state), None)

    def _transaction(self, producer: Producer, letters: Sequence[Letter], state: State, reason: str) -> bool:
        """All of them, or none: False where the broker refuses the size."""
        try:
            producer.begin_transaction()
            sent = self._send(producer, letters) if state is State.REDRIVEN else {}
            if sent is None:
                # librdkafka would purge the next transaction too; a new client aborts this one.
                self._producer = self._open()
                return False
            self._mark(producer, letters, sent, state, reason)
            producer.commit_transaction(-1)  # the rest of the transaction's time, as librdkafka advises
        except (KafkaException, SystemError) as error:
            _abort(producer)
            raise self._fault(fatal_cause(error).args[0]) from error
        except KeyboardInterrupt:
            _abort(producer)
            raise
        return True

    def _send(self, producer: Producer, letters: Sequence[Letter]) -> dict[int, Message] | None:
        """What was acknowledged, by index; None where the broker refuses the size. Raises
        `KafkaException`, or `SystemError` at a fatal error.
        """
        sent: dict[int, Message] = {}
        errors: list[KafkaError] = []
        for index, letter in enumerate(letters):

            def settled(error: KafkaError | None, message: Message, index: int = index) -> None:
                self._note(error, message)
                if error is None:
                    sent[index] = message
                else:
                    errors.append(error)

            place = letter.place
            producer.produce(
                place.topic,
                value=letter.value,
                key=letter.key,
                headers=_headers(letter),
                # Where it was, whatever partitioner its writer uses; by key where that partition is gone.
                partition=place.partition if place.partition in self._partitions else -1,
                on_delivery=settled,
            )
        left = producer.flush(_TRANSACTION)
        if any(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for error in errors):
            return None
        if errors or left:
            raise KafkaException(errors[0] if errors else KafkaError(KafkaError._MSG_TIMED_OUT))
        return sent

    def _mark(
        self,
        producer: Producer,
        letters: Sequence[Letter],
        sent: dict[int, Message],
        state: State,
        reason: str,
    ) -> None:
        now = datetime.now(UTC)
        for index, letter in enumerate(letters):
            record = sent.get(index)
            mark = Mark(
                place=letter.place,
                state=state,
                at=now,
                reason=reason,
                to_partition=None if record is None else record.partition(),
                to_offset=None if record is None else record.offset(),
            )
            producer.produce(
                self._queue.name,
                key=str(letter.place),
                value=mark.to_json(),
                partition=letter.partition,
                headers=[(MARK, state.encode())],
                on_delivery=self._note,
            )

    def _open(self) -> Producer:
        try:
            producer = Producer(redrive_config(self._queue.settings, self._id, _TRANSACTION))
            producer.init_transactions(_TRANSACTION)
        except KafkaException as error:
            raise self._fault(error.args[0]) from error
        return producer

    def _fault(self, error: KafkaError) -> SourceUnavailable | SourceFailed | RedriveInterrupted:
        if error.code() in _FENCED:
            return RedriveInterrupted(
                f"another redrive or discard of {self._queue.name} began, and this one ended for it. What "
                "was done stays done; run it again when the other has ended"
            )
        if error.code() in _REFUSED:
            return SourceFailed(
                f"Kafka refuses the transaction: {error.str()}. Grant WRITE on {self._queue.topic} and "
                f"{self._queue.name}, and WRITE and DESCRIBE on the transactional id {self._id}"
            )
        return SourceUnavailable(
            f"Kafka did not take the transaction: {error.str()}. What was done before stays done; the same "
            "command again does the rest"
        )


def _abort(producer: Producer) -> None:
    """What stays open holds up the topic's readers until the broker's own time limit."""
    with suppress(KafkaException, SystemError):
        producer.abort_transaction(1.0)


def _headers(letter: Letter) -> Any:
    own = [(name, value) for name, value in letter.headers if name not in (ATTEMPTS, REDRIVEN_FROM)]
    attempts = str(letter.attempts + 1).encode()
    return [*own, (ATTEMPTS, attempts), (REDRIVEN_FROM, str(letter.place).encode())]


def _same(record: Record, letter: Letter) -> bool:
    """A topic that was made anew gives the offset to another record."""
    kind, milliseconds = record.timestamp()
    timestamp = milliseconds if kind else None
    known = None if letter.timestamp is None else round(letter.timestamp.timestamp() * 1000)
    return record.offset() == letter.place.offset and record.value() is not None and timestamp == known


def _batches(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    batch: list[Letter] = []
    size = 0
    for letter in letters:
        batch.append(letter)
        size += len(letter.value) + len(letter.key or b"")
        if len(batch) >= _RECORDS or size >= _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
