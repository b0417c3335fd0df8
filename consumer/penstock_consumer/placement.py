"""Where a claimed partition goes on: offset arithmetic, no I/O."""

from dataclasses import dataclass
from typing import Literal

from penstock_consumer.interfaces import PartitionState

__all__ = ["ACCEPT", "TRUNCATED", "Loss", "place"]

ACCEPT = "start the workers with `--accept-loss topic:partition` (accept_loss in code)"
TRUNCATED = "Restore the log, or make the topic anew: its new id gives it books of its own"


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that will not be ingested: [first, next) was expired, or is passed over as `start` says, which
    may be nothing; or the log ends at `next` already.
    """

    first: int
    next: int
    reason: Literal["expired", "truncated", "latest"]

    def accepted(self, by_operator: bool) -> bool:
        """Whether the partition goes on. Offsets of a truncated log come again for other records, which the
        books of this topic cannot hold, so nobody can accept that.
        """
        return self.reason == "latest" or (self.reason == "expired" and by_operator)

    @property
    def explanation(self) -> str:
        """For the operator."""
        if self.reason == "expired":
            return (
                f"offsets {self.first} to {self.next - 1} were deleted by the topic's retention before they "
                f"were ingested. To go on without them {ACCEPT}"
            )
        if self.reason == "latest":
            return f"offsets {self.first} to {self.next - 1} are passed over, as start=latest says"
        return (
            f"the partition ends at {self.next}, before the stored position {self.first}: the log was "
            "truncated, and offsets already ingested come again with other records. " + TRUNCATED
        )


def place(position: int | None, state: PartitionState, start: Literal["earliest", "latest"]) -> int | Loss:
    """The offset to fetch first, or what was lost.

    `position` is the next offset by PostgreSQL, None where it holds none: then `start` decides.
    """
    if position is None:
        # Passing over is written down like a loss, an empty partition too: what comes before the first batch
        # is committed must not be passed over by the next claim.
        return state.low if start == "earliest" else Loss(state.low, state.high, "latest")
    if position < state.low:
        return Loss(position, state.low, "expired")
    if position > state.high:
        return Loss(position, state.high, "truncated")
    return position
