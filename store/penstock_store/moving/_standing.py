"""Where a copy goes on: read off the target itself, so that nothing else has to be kept or can be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from penstock_schemas import RecordedEvent
from penstock_store.contract import EventReader, QueryOptions
from penstock_store.store_errors import CorruptedEvents

__all__ = ["Standing", "last_event", "standing"]

_NEWEST: Final = QueryOptions(descending=True, limit=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`after`: everything of the source up to that sequence is in the target. `last`: the sequence of the
    target's newest event, 0 for none.
    """

    after: int
    last: int
    keeps: bool  # so far the target's events are the source's, at the sequences that they have there

    def past(self, after: int, last: int) -> Standing:
        """After a batch up to `after` of the source."""
        return Standing(after=after, last=max(last, self.last), keeps=self.keeps)


async def last_event(
    store: EventReader, *, up_to: int | None = None, skip_corrupted: bool = False
) -> RecordedEvent | None:
    """The newest event by sequence, not above `up_to`."""
    page = await store.get_events(_NEWEST.replace(up_to_sequence=up_to, skip_corrupted=skip_corrupted))
    return page.events[0] if page.events else None


async def standing(source: EventReader, target: EventReader, *, skip_corrupted: bool = False) -> Standing:
    """Events reach a target in the source's order and in whole batches, so its newest event says where to go
    on, whatever interrupted the copy. Where that is no event of the source, the copy begins at the start.
    """
    newest = await last_event(target)
    if newest is None:
        return Standing(after=0, last=0, keeps=True)
    try:
        origin = await source.get_event(newest.event_id)
    except CorruptedEvents:  # it may be among what cannot be read
        if not skip_corrupted:
            raise
        origin = None
    if origin is None:
        return Standing(after=0, last=newest.sequence, keeps=False)
    same = origin.sequence == newest.sequence
    return Standing(after=origin.sequence, last=newest.sequence, keeps=same)
