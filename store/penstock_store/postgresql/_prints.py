"""Which sealed partitions can hold a value, asked of their fingerprints (`migrations/sql/0001_prints.sql`).

A filter on one entity is answered by few of hundreds of partitions, and probing an index in each costs a
hundred times more than asking the prints of all at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from penstock_store.contract import QueryOptions

__all__ = ["printed_values", "prints_condition"]

_BLOCKS: Final = tuple(4**power for power in range(9))
_MOST_VALUES: Final = 8  # in one query: more of them prune little and cost the planner more than they save
_EQUAL: Final = ("actor_id", "entity_id", "tenant_id", "correlation_id")


def printed_values(options: QueryOptions) -> list[tuple[str, Sequence[str]]]:
    """The filters that fingerprints know: a kind, and the values of which an event must have one."""
    found: list[tuple[str, Sequence[str]]] = [
        (name, [value]) for name in _EQUAL if (value := getattr(options, name)) is not None
    ]
    if options.event_types:
        found.append(("event_type", options.event_types))
    found += [("tags", [tag]) for tag in options.tags]
    kept, values = [], 0
    for kind, wanted in found:
        values += len(wanted)
        if values <= _MOST_VALUES:
            kept.append((kind, wanted))
    return kept


def prints_condition(wanted: Sequence[tuple[str, Sequence[str]]], bind: Callable[[object], str]) -> str:
    """SQL that holds for a row `p` of the catalogue that can have, of each kind, one of its values."""
    parts = []
    for kind, values in wanted:
        tests = " OR ".join(_test(value, bind) for value in values)
        parts.append(f"p.name IN (SELECT leaf FROM penstock.prints WHERE kind = {bind(kind)} AND ({tests}))")
    return f" AND (p.sealed_at IS NULL OR ({' AND '.join(parts)}))" if parts else ""


def _test(value: str, bind: Callable[[object], str]) -> str:
    # Every size spelled out: one index condition each. A join with a list of sizes reads the whole kind.
    digest = hashlib.sha256(value.encode()).digest()
    blocks = " OR ".join(_blocks(int.from_bytes(digest[:4], "big"), bind))
    return f"(({blocks}) AND position({bind(digest[4:7])}::bytea IN prints) > 0)"


def _blocks(hashed: int, bind: Callable[[object], str]) -> Iterator[str]:
    for blocks in _BLOCKS:
        yield f"(blocks = {blocks} AND block = {bind(hashed % blocks)}::integer)"
