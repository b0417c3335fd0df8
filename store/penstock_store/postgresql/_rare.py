"""Which value of a filter to look for by the plans that a session keeps for each partition
(`migrations/sql/0001_rare.sql`): those are quick where few events have it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from penstock_store.contract import QueryOptions
from penstock_store.postgresql._windows import Window

__all__ = ["NOT_BY_KEPT_PLANS", "as_json", "rare_tags", "rare_value"]

NOT_BY_KEPT_PLANS: Final = (
    "PN003",
    "42P01",
)  # SQLSTATE: the value is not rare, a partition was dropped meanwhile
_FEW: Final = 8  # partitions: with fewer the planner, who knows the value, costs little
_COLUMNS: Final = (
    "correlation_id",
    "entity_id",
    "actor_id",
)  # from the one that most likely tells most apart


def rare_value(options: QueryOptions, window: Window, common_tags: Collection[str]) -> tuple[str, str] | None:
    """The kind of value and the value; None where no value is asked for, or in few partitions."""
    if len(window.closed) < _FEW:
        return None
    for name in _COLUMNS:
        value: str | None = getattr(options, name)
        if value is not None:
            return name, value
    tags = rare_tags(options, common_tags)
    if tags and not set(tags) <= set(common_tags):
        return "tags", as_json(tags)
    if len(options.event_types) == 1:
        return "event_type", options.event_types[0]
    if options.payload:
        return "payload", as_json(options.payload)
    return None if options.tenant_id is None else ("tenant_id", options.tenant_id)


def rare_tags(options: QueryOptions, common_tags: Collection[str]) -> list[str]:
    """Those that an index had better look for; all where none is rarer."""
    return [tag for tag in options.tags if tag not in common_tags] or list(options.tags)


def as_json(value: object) -> str:
    """For a parameter of type jsonb."""
    return json.dumps(value, ensure_ascii=False)
