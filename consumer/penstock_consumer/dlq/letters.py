"""What a dead-letter topic holds: dead letters, and marks that say what became of them.

A mark is a record of its own in the same partition. It is written in one Kafka transaction with what it
tells of, so that no crash comes between a redrive and the memory of it, and it goes where its dead letter
goes: another topic, backup or retention cannot part them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Self

from penstock_consumer.dead_letters import (
    ATTEMPTS,
    OWN,
    PREFIX,
    REASON,
    REFERENCE,
    TIMESTAMP,
    TOPIC_ID,
    is_cause,
)
from penstock_consumer.interfaces import Record
from penstock_consumer.record_headers import UNREADABLE, read_headers

__all__ = [
    "ATTEMPTS",
    "MARK",
    "REDRIVEN_FROM",
    "Letter",
    "Mark",
    "Place",
    "State",
    "read_letter",
    "read_mark",
]

MARK = OWN + "mark"
"""Header of a mark: `redriven` or `discarded`. Its value is JSON."""
REDRIVEN_FROM = "penstock.redrive.from"
"""Header of a redriven record: where it was read when it failed, as topic:partition@offset."""

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)
"""What `int` reads whoever wrote it; it refuses thousands of digits."""
Headers = Sequence[tuple[str, bytes | None]]


class State(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class Place(NamedTuple):
    """A record's source coordinates. Two dead letters of one place are the same: a crash between the
    acknowledgement and COMMIT left the second.
    """

    topic: str
    topic_id: str
    """Empty where another program wrote the dead letter."""
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What somebody decided of a dead letter, and when."""

    place: Place
    state: State
    at: datetime
    reason: str = ""
    to_offset: int | None = None
    """Of the redriven record, in `to_partition` of the source topic."""
    to_partition: int | None = None

    def to_json(self) -> bytes:
        """As it is written to the dead-letter topic."""
        return json.dumps(
            {
                **self.place._asdict(),
                "state": self.state,
                "at": self.at.isoformat(),
                "reason": self.reason,
                "to_partition": self.to_partition,
                "to_offset": self.to_offset,
            }
        ).encode()

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Raises `ValueError`, `KeyError` or `TypeError` for what no mark is."""
        found = json.loads(value)
        place = Place(
            str(found["topic"]), str(found["topic_id"]), int(found["partition"]), int(found["offset"])
        )
        return cls(
            place=place,
            state=State(found["state"]),
            at=datetime.fromisoformat(found["at"]),
            reason=str(found["reason"]),
            to_offset=found["to_offset"],
            to_partition=found["to_partition"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter as it lies in its topic."""

    place: Place
    partition: int
    """Of the dead-letter topic; likewise `offset`."""
    offset: int
    at: datetime
    """When it was dead-lettered, by the dead-letter topic's timestamps."""
    timestamp: datetime | None
    """Of the record itself, where it had one."""
    group: str
    """The consumer group whose worker gave it up."""
    cause: str
    stage: str
    exception: str
    message: str
    attempts: int
    """How often it was redriven before."""
    reference: bool
    """It was too large for the dead-letter topic: `value` is not the record's."""
    key: bytes | None
    value: bytes
    headers: Headers
    """The record's own, without those of the dead letter."""
    headers_lost: bool
    """The record had headers that could not be read; `headers` is without them."""
    state: State = State.OPEN
    mark: Mark | None = None
    event_type: str | None = None
    """None where the record cannot be decoded, or nobody tried."""


def read_mark(record: Record) -> Mark | None:
    """The mark that a record of the dead-letter topic is, or None for any other record."""
    if not any(name == MARK for name, _ in read_headers(record)):
        return None
    try:
        return Mark.from_json(record.value() or b"")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_letter(record: Record) -> Letter | None:
    """The dead letter that a record is; None for a mark, and for what names no source."""
    every = read_headers(record)
    own = {name: (value or b"").decode(errors="replace") for name, value in every if is_cause(name)}
    if MARK in own:
        return None
    try:
        place = Place(
            own[PREFIX + "topic"],
            own.get(TOPIC_ID, ""),
            int(own[PREFIX + "partition"]),
            int(own[PREFIX + "offset"]),
        )
    except (KeyError, ValueError):
        return None
    headers = [(name, value) for name, value in every if not is_cause(name)]
    stamp = own.get(TIMESTAMP, "")
    return Letter(
        place=place,
        partition=record.partition(),
        offset=record.offset(),
        at=_time(record.timestamp()[1]),
        timestamp=_time(int(stamp)) if _NUMBER.fullmatch(stamp) else None,
        group=own.get(PREFIX + "connector.name", ""),
        cause=own.get(REASON, "unknown"),
        stage=own.get(PREFIX + "stage", ""),
        exception=own.get(PREFIX + "exception.class.name", ""),
        message=own.get(PREFIX + "exception.message", ""),
        attempts=_attempts(headers),
        reference=REFERENCE in own,
        headers_lost=UNREADABLE in own,
        key=record.key(),
        value=record.value() or b"",
        headers=headers,
    )


def _attempts(headers: Headers) -> int:
    """The highest that is named: whoever copies headers may have left several."""
    named = [(value or b"").decode(errors="replace") for name, value in headers if name == ATTEMPTS]
    found = [int(value) for value in named if _NUMBER.fullmatch(value)]
    return max(found, default=0)


def _time(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # a producer's clock may say anything
        return datetime.fromtimestamp(0, UTC)
