"""What can go wrong with named checkpoints and projections. All below `StoreError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_store.errors import StoreError

if TYPE_CHECKING:
    from penstock_schemas import RecordedEvent
    from penstock_store.checkpoint_records import CheckpointState

__all__ = [
    "CheckpointError",
    "CheckpointHeld",
    "CheckpointLost",
    "EventsExpired",
    "InvalidCheckpoint",
    "InvalidProjection",
    "ProjectionError",
    "ProjectionFailed",
    "StateVersionDiffers",
    "TablesNotMade",
]


class CheckpointError(StoreError):
    """Root of what checkpoints raise. The position that is kept did not change."""


class InvalidCheckpoint(CheckpointError, ValueError):
    """A name, sequence or state that cannot be kept, or a step backwards; the message says what to change."""


class CheckpointHeld(CheckpointError):
    """Somebody else goes on from there, and still did when the wait was over. `state`: who, until when."""

    def __init__(self, state: CheckpointState, waited: float) -> None:
        self.state = state
        super().__init__(
            f"the checkpoint {state.name!r} is held by {state.owner} until {state.leased_until:%H:%M:%S} UTC,"
            f" and was for the {waited:g} s of waiting. Stop that owner, wait longer (wait=math.inf makes a"
            " standby), or supersede it by take=True"
        )


class CheckpointLost(CheckpointError):
    """A newer owner superseded this one. Nothing was saved: stop, or claim the checkpoint again and go on
    from where it then stands.
    """

    def __init__(self, name: str, epoch: int, found: CheckpointState | None) -> None:
        by = "it is gone" if found is None else f"{found.owner or 'an owner that has left'} took it"
        super().__init__(
            f"this process no longer owns the checkpoint {name!r} (epoch {epoch}; {by}). Nothing was saved:"
            " stop, or claim it again and go on from where it then stands"
        )


class EventsExpired(CheckpointError):
    """Retention dropped events that `what` (a subscription, a rebuild, a fold) has not read.

    `position`: the last it has read; `expired_through`: the highest sequence that was dropped.
    """

    def __init__(self, what: str, *, position: int, expired_through: int) -> None:
        self.position = position
        self.expired_through = expired_through
        super().__init__(
            f"{what} stands at sequence {position:,}, and retention dropped events up to"
            f" {expired_through:,}: some may be missing in between. Restore them from an archive or backup,"
            " or go on without them by accept_loss=True"
        )


class StateVersionDiffers(CheckpointError):
    """The state that is kept has another meaning than the one this code folds."""

    def __init__(self, name: str, *, kept: int, wanted: int) -> None:
        self.kept = kept
        self.wanted = wanted
        super().__init__(
            f"the checkpoint {name!r} keeps state version {kept}, this code makes version {wanted}. Rebuild"
            " it (`penstock projection rebuild`), or run the code that fits"
        )


class ProjectionError(StoreError):
    """Root of what projections raise."""


class InvalidProjection(ProjectionError, ValueError):
    """A definition that cannot be run; the message says what to change."""


class ProjectionFailed(ProjectionError):
    """The handler raised. Everything before `event` is done, nothing of it or after it is."""

    def __init__(self, name: str, event: RecordedEvent, error: BaseException) -> None:
        self.event = event
        super().__init__(
            f"the projection {name!r} stopped at event {event.event_id} ({event.event_type}, sequence"
            f" {event.sequence:,}): its handler raised {type(error).__name__}: {error}. Everything before it"
            f" is done. Mend the handler and run it again, or leave this event out: --skip {event.sequence}"
        )


class TablesNotMade(ProjectionError):
    """`setup` or `seed` raised, or the login may not do what they need. Nothing of it was done."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(
            f"the tables of the projection {name!r} could not be made: {type(error).__name__}: {error}."
            " Nothing of it was done. Mend its setup, seed or readers, or give the login CREATE on the"
            " database, and run it again"
        )
