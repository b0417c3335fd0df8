"""New event ids: UUIDv7 (RFC 9562), ordered by time to a quarter of a microsecond."""

import os
import time
import uuid
from random import Random

__all__ = ["new_id"]

_VERSION_AND_VARIANT = 7 << 76 | 2 << 62
# Ids have to differ, not to be secrets: a system call for each would be a fifth of the price. A child must
# not repeat its parent's.
_chance = Random()  # noqa: S311 - as said
os.register_at_fork(after_in_child=_chance.seed)


def new_id() -> uuid.UUID:
    """A new id. Time-ordered ids keep the unique index's insertions on its right edge.

    The 12 bits behind the milliseconds are their fraction (the RFC's method 3), 62 are random. Counting the
    milliseconds up instead, as the usual package does, runs ahead of the clock: by 16 minutes after a million
    events in 20 seconds.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = (rest << 12) // 1_000_000
    chance = _chance.getrandbits(62)
    return uuid.UUID(int=milliseconds << 80 | fraction << 64 | chance | _VERSION_AND_VARIANT)
