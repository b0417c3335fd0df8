"""The secondary indexes of partitions, of which the user chooses; the unique ones are always there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["LEAF_INDEXES", "chosen_indexes"]

LEAF_INDEXES: Final = ("time", "type", "correlation", "entity", "actor", "payload", "tags", "recorded")


def chosen_indexes(wanted: Sequence[str]) -> tuple[str, ...]:
    """`full` (all), `lean` (none) or single ones, each once and sorted. Raises ValueError."""
    unknown = sorted(set(wanted) - set(LEAF_INDEXES)) if tuple(wanted) not in (("full",), ("lean",)) else []
    if unknown or not wanted:
        raise ValueError(
            f"there is no index {', '.join(unknown) or 'named'}: give full, lean, or a list of"
            f" {', '.join(LEAF_INDEXES)}"
        )
    return tuple(sorted(set(wanted)))
