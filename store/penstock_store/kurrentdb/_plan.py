"""What of `QueryOptions` KurrentDB can serve: one stream by name, or all by position. Pure.

It has no index but the name of a stream: what would mean reading everything is refused, not imitated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.kurrentdb._mapping import entity_stream, tenant_prefix
from penstock_store.store_errors import NotSupported

__all__ = ["Filter", "Plan", "filter_of", "plan_of"]

_NEED_A_STREAM: Final = (
    "since",
    "until",
    "recorded_since",
    "recorded_until",
    "actor_id",
    "tags",
    "payload",
)


@dataclass(frozen=True, slots=True)
class Filter:
    """The one that the server applies: by the beginning of a stream's name, or by types."""

    prefix: str
    types: tuple[str, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """As the client's reads take it."""
        if not self.types:
            return {"filter_include": (self.prefix,), "filter_by_stream_name": True, "filter_by_prefix": True}
        # One pattern: of several the client anchors only the first and the last.
        return {"filter_include": (f"(?:{'|'.join(map(re.escape, self.types))})",)}


@dataclass(frozen=True, slots=True)
class Plan:
    """Read `stream`, or where it is None everything, filtered; what comes is looked at once more."""

    stream: str | None
    links: bool  # the stream holds links to events
    wanted: Filter


def plan_of(options: QueryOptions, category: str, *, system_projections: bool) -> Plan:
    """Raises `NotSupported`, which names the option and what to do instead."""
    if options.order_by is not OrderBy.SEQUENCE:
        raise NotSupported(
            f"KurrentDB reads by sequence only, not by {options.order_by.value}: it has no other index."
            " Leave order_by out, or choose another backend"
        )
    own = Filter(f"{category}-")
    if options.entity_id is not None:
        if options.tenant_id is None:
            raise NotSupported("KurrentDB finds an entity by (tenant_id, entity_id): give tenant_id as well")
        return Plan(entity_stream(category, options.tenant_id, options.entity_id), False, own)
    if options.correlation_id is not None:
        if not system_projections:
            raise NotSupported(
                "KurrentDB finds a correlation by its projection $by_correlation_id. Where the server runs it"
                " (--run-projections=System --start-standard-projections), set system_projections = true"
            )
        return Plan(f"$bc-{options.correlation_id}", True, own)
    if options.descending and options.up_to_sequence is not None and options.cursor is None:
        raise NotSupported(
            "KurrentDB begins to read backwards at the end or at a cursor: leave up_to_sequence out"
        )
    return Plan(None, False, filter_of(options, category))


def filter_of(options: QueryOptions, category: str) -> Filter:
    """For a read of everything, and for a subscription."""
    for name in _NEED_A_STREAM:
        if getattr(options, name):
            raise NotSupported(
                f"KurrentDB has no index for {name}: it would read everything. Give tenant_id and entity_id"
                " as well, filter what you read, or choose another backend"
            )
    if options.event_types and options.tenant_id is not None:
        raise NotSupported("KurrentDB filters by event_types or by tenant_id, not by both: give one of them")
    if options.event_types:
        return Filter(f"{category}-", tuple(options.event_types))
    if options.tenant_id is None:
        return Filter(f"{category}-")
    prefix = tenant_prefix(category, options.tenant_id)
    if options.entity_id is not None:
        prefix = entity_stream(category, options.tenant_id, options.entity_id)
    return Filter(prefix)
