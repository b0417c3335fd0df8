"""Appends in backend-neutral words, and the pure decisions that every backend shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from penstock_schemas import Event
from penstock_schemas.fields import EventFields
from penstock_store.store_errors import AppendConflict, InvalidAppend, WrongExpectedVersion

__all__ = ["MAX_BATCH", "AppendOutcome", "AppendResult", "Known", "Prepared", "fresh_places", "prepare"]

MAX_BATCH: Final = 10_000  # events in one call: they are one transaction, held in memory
_BIGINT: Final = 2**63 - 1

Key = tuple[str, str]
"""(tenant, idempotency key)"""


class AppendOutcome(StrEnum):
    """What an append came to, for one event."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # stored before, with the same type, entity and payload


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """Where the event stands. Of a duplicate: where the one stands that was stored, with its id."""

    outcome: AppendOutcome
    event_id: UUID
    sequence: int
    recorded_at: datetime

    @property
    def stored(self) -> bool:
        """This call stored it."""
        return self.outcome is AppendOutcome.STORED


class Known(NamedTuple):
    """What a store holds under a key."""

    content_hash: bytes
    event_id: UUID
    sequence: int
    recorded_at: datetime


class Prepared(NamedTuple):
    """A call's events, each key once. `places`: for every event given, its index into `fields`."""

    fields: Sequence[EventFields]
    places: Sequence[int]
    expected_version: int | None

    @property
    def keys(self) -> list[Key]:
        """Of `fields`."""
        return [(one.tenant_id, one.idempotency_key) for one in self.fields]

    @property
    def entity(self) -> Key:
        """(tenant, entity id) of the first event; with an expected version that of all."""
        return self.fields[0].tenant_id, self.fields[0].entity_id

    def results(self, settled: Sequence[AppendResult]) -> list[AppendResult]:
        """From one result per `fields` to one per event given: a repeat within the call is a duplicate."""
        seen: set[int] = set()
        found = []
        for place in self.places:
            result = settled[place]
            if place in seen and result.stored:
                result = AppendResult(
                    outcome=AppendOutcome.DUPLICATE,
                    event_id=result.event_id,
                    sequence=result.sequence,
                    recorded_at=result.recorded_at,
                )
            seen.add(place)
            found.append(result)
        return found

    def conflict(self, places: Iterable[int], reason: str) -> AppendConflict:
        """The error for these of `fields`."""
        wrong = set(places)
        ids = [UUID(bytes=self.fields[place].event_id) for place in sorted(wrong)]
        given = [index for index, place in enumerate(self.places) if place in wrong]
        return AppendConflict(ids, reason, places=given)


def prepare(events: Sequence[Event], expected_version: int | None = None) -> Prepared:
    """Check a call without looking at the store. Raises `InvalidAppend` or `AppendConflict`."""
    if not isinstance(events, Sequence):  # one event and a generator are iterable, too
        raise InvalidAppend(f"append_batch takes a list or tuple of events; got {events!r:.200}")
    if len(events) > MAX_BATCH:
        raise InvalidAppend(f"{len(events):,} events in one call; at most {MAX_BATCH:,} fit. Split them")
    fields: list[EventFields] = []
    places: list[int] = []
    of_key: dict[Key, int] = {}
    ids: set[bytes] = set()
    for index, event in enumerate(events):
        if not isinstance(event, Event):
            raise InvalidAppend(f"only an Event can be appended; got {event!r:.200}")
        one = EventFields.of(event)
        place = of_key.setdefault((one.tenant_id, one.idempotency_key), len(fields))
        if place == len(fields):
            if one.event_id in ids:
                raise AppendConflict([event.event_id], "event_id_taken", places=[index])
            ids.add(one.event_id)
            fields.append(one)
        elif fields[place].content_hash != one.content_hash:
            raise AppendConflict([event.event_id], "key_conflict", places=[index])
        places.append(place)
    _check_expectation(fields, expected_version)
    return Prepared(fields, places, expected_version)


def _check_expectation(fields: Sequence[EventFields], expected: int | None) -> None:
    if expected is None:
        return
    if not isinstance(expected, int) or isinstance(expected, bool) or not 0 <= expected <= _BIGINT:
        raise InvalidAppend(
            f"expected_version must be 0 (no events yet) or the sequence of the entity's newest event; "
            f"got {expected!r}"
        )
    if len({(one.tenant_id, one.entity_id) for one in fields}) > 1:
        raise InvalidAppend(
            "expected_version speaks of one entity, and the call has events of several. Append them apart"
        )


def fresh_places(
    prepared: Prepared, known: Mapping[Key, Known], taken: Iterable[bytes], version: int
) -> list[int]:
    """Which of `fields` are new, in order.

    `known`: what is stored under their keys; `taken`: which of their event ids are stored; `version`: of the
    entity, where a version is expected. A repeated call is all duplicates and no longer asks for the version.
    Raises `AppendConflict` or `WrongExpectedVersion`.
    """
    fresh, conflicts = [], []
    for place, (key, one) in enumerate(zip(prepared.keys, prepared.fields, strict=True)):
        stored = known.get(key)
        if stored is None:
            fresh.append(place)
        elif stored.content_hash != one.content_hash:
            conflicts.append(place)
    if conflicts:
        raise prepared.conflict(conflicts, "key_conflict")
    ids = set(taken)
    if doubled := [place for place in fresh if prepared.fields[place].event_id in ids]:
        raise prepared.conflict(doubled, "event_id_taken")
    if fresh and prepared.expected_version is not None and version != prepared.expected_version:
        raise WrongExpectedVersion(*prepared.entity, expected=prepared.expected_version, actual=version)
    return fresh
