"""Which sealed partitions can hold a value, asked of their fingerprints (`migrations/sql/0001_prints.sql`).

A filter on one entity is answered by few of hundreds of partitions, and probing an index in each costs a
hundred times more than asking the prints of all at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Final

from penstock_store.contract import QueryOptions

__all__ = ["printed_values", "prints_condition"]

_BLOCKS: Final = tuple(4**power for power in range(9))
_MOST_VALUES: Final = 8  # in one query: more of them prune little and cost the planner more than they save
_EQUAL: Final = ("actor_id", "entity_id", "tenant_id", "correlation_id")
_HASHED: Final = "penstock.payload_hash({pair}::jsonb ->> 0, {pair}::jsonb -> 1)"


def printed_values(options: QueryOptions) -> list[tuple[str, Sequence[str]]]:
    """The filters that fingerprints know: a kind, and the values of which an event must have one."""
    found: list[tuple[str, Sequence[str]]] = [
        (name, [value]) for name in _EQUAL if (value := getattr(options, name)) is not None
    ]
    if options.event_types:
        found.append(("event_type", options.event_types))
    found += [("tags", [tag]) for tag in options.tags]
    found += [
        ("payload", [json.dumps(pair)])
        for pair in (options.payload or {}).items()
        if not isinstance(pair[1], dict | list)
    ]
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
        test = _payload_test if kind == "payload" else _test
        tests = " OR ".join(test(value, bind) for value in values)
        part = f"p.name IN (SELECT leaf FROM penstock.prints WHERE kind = {bind(kind)} AND ({tests}))"
        if kind == "payload":  # whose hash is the server's
            part = f"(p.payload_probe IS DISTINCT FROM penstock.payload_probe() OR {part})"
        parts.append(part)
    return f" AND (p.sealed_at IS NULL OR ({' AND '.join(parts)}))" if parts else ""


def _test(value: str, bind: Callable[[object], str]) -> str:
    # Every size spelled out: one index condition each. A join with a list of sizes reads the whole kind.
    digest = hashlib.sha256(value.encode()).digest()
    hashed = int.from_bytes(digest[:4], "big")
    found = _blocks(lambda blocks: f"{bind(hashed % blocks)}::integer")
    return f"(({found}) AND position({bind(digest[4:7])}::bytea IN prints) > 0)"


def _payload_test(pair: str, bind: Callable[[object], str]) -> str:
    hashed = _HASHED.format(pair=bind(pair))
    found = _blocks(lambda blocks: f"({hashed} & {blocks - 1})::integer")
    return f"(({found}) AND position(substr(int8send({hashed}), 1, 3) IN prints) > 0)"


def _blocks(block: Callable[[int], str]) -> str:
    return " OR ".join(f"(blocks = {blocks} AND block = {block(blocks)})" for blocks in _BLOCKS)
