"""Was everything stored, once and in order? Pure bookkeeping of what went in and what came out."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from penstock_schemas import Event, RecordedEvent

__all__ = ["Tally"]

_Key = tuple[str, str]
_SHOWN = 3


@dataclass(slots=True)
class Tally:
    """Told of every event emitted, in order, then of every event read back, in the store's order.

    Memory: about 200 bytes a distinct event, so that a million fit where a demo runs.
    """

    first: datetime | None = None
    last: datetime | None = None
    read_first: datetime | None = None
    read_last: datetime | None = None
    read: int = 0
    disorder: list[str] = field(default_factory=list)
    disordered: int = 0
    entities: Counter[_Key] = field(default_factory=Counter)
    correlations: set[_Key] = field(default_factory=set)
    event_types: set[str] = field(default_factory=set)
    _places: dict[_Key, int] = field(default_factory=dict)
    _found: set[int] = field(default_factory=set)
    _latest: dict[_Key, int] = field(default_factory=dict)

    def emitted(self, event: Event) -> None:
        """The first event with an idempotency key is the one that counts; a repetition keeps its place."""
        self._places.setdefault((event.tenant_id, event.idempotency_key), len(self._places))
        at = event.occurred_at
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def read_back(self, event: RecordedEvent) -> bool:
        """Whether it is one of this run's; events of others are left out."""
        place = self._places.get((event.tenant_id, event.idempotency_key))
        if place is None:
            return False
        entity = (event.tenant_id, event.entity_id)
        before = self._latest.get(entity, -1)
        # Found already: stored once more by a run after the dedupe window, which begins anew.
        if place < before and place not in self._found:
            self._note(event)
        self._found.add(place)
        self._latest[entity] = place
        self._count(event, entity)
        return True

    def start_again(self) -> None:
        """Forget what was read back, to read once more."""
        self.read = self.disordered = 0
        self.read_first = self.read_last = None
        for kept in (
            self.disorder,
            self.entities,
            self.correlations,
            self.event_types,
            self._found,
            self._latest,
        ):
            kept.clear()

    @property
    def distinct(self) -> int:
        """Idempotency keys emitted."""
        return len(self._places)

    @property
    def missing(self) -> int:
        """Idempotency keys emitted of which nothing was read back."""
        return len(self._places) - len(self._found)

    def _note(self, event: RecordedEvent) -> None:
        self.disordered += 1
        if len(self.disorder) < _SHOWN:
            self.disorder.append(
                f"sequence {event.sequence} of entity {event.entity_id} ({event.event_type})"
            )

    def _count(self, event: RecordedEvent, entity: _Key) -> None:
        self.read += 1
        self.entities[entity] += 1
        self.correlations.add((event.tenant_id, event.correlation_id))
        self.event_types.add(event.event_type)
        at = event.occurred_at
        self.read_first = at if self.read_first is None else min(self.read_first, at)
        self.read_last = at if self.read_last is None else max(self.read_last, at)
