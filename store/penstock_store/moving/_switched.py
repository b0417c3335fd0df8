"""The mark that a switch leaves in the old store: a restart with the same two stores must not undo it."""

from __future__ import annotations

from typing import Any, Final

import structlog

from penstock_store.contract import QueryOptions
from penstock_store.moving._standing import last_event
from penstock_store.store_contract import Capability, EventStore
from penstock_store.store_errors import NotSupported

__all__ = ["check_markable", "mark_switched", "was_switched"]

_MARK: Final = "mirror/switched"  # the name of a checkpoint
_log = structlog.get_logger(__name__)


def check_markable(old: EventStore) -> None:
    """Raises `NotSupported`."""
    if Capability.CHECKPOINTS not in old.capabilities:
        raise NotSupported(
            f"{type(old).__name__} keeps no checkpoints, so a restart would forget the switch. Name the new"
            " store alone in the configuration, and start again"
        )


async def mark_switched(old: EventStore, new: EventStore, position: int) -> None:
    """Before the new one takes anything of its own. `position`: of the old one's newest event, which the new
    one has. Raises `StoreError`; the mark may then be there.
    """
    newest = await last_event(new)
    async with old.checkpoint(_MARK, wait=0, take=True, accept_loss=True) as mark:
        await mark.save(position, {"new": newest.sequence if newest is not None else 0})


async def was_switched(old: EventStore, new: EventStore) -> bool:
    """Whether the new store is the truth. `old` is initialized; where it went on after the mark, `new` is
    asked which of them took what the other has not. Raises `StoreError`.
    """
    mark = await old.get_checkpoint(_MARK) if Capability.CHECKPOINTS in old.capabilities else None
    if mark is None:
        return False
    newest = await last_event(old)
    if newest is None or newest.sequence <= mark.sequence:
        return True
    await new.initialize()
    state: Any = mark.state
    after = QueryOptions(after_sequence=state["new"] if state else 0, limit=1)
    since = (await new.get_events(after)).events
    if not since or await old.get_event(since[0].event_id) is not None:
        return False  # the mark's answer was lost, and the old one went on
    _log.warning("old_store_written_after_switch", sequence=newest.sequence, do="copy again")
    return True
