"""Two stores compared by content: a hash over every column that an event brings, key by key.

Both sides are read in the order of their keys, so memory stays constant.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from penstock.replay.database import connected
from penstock_schemas.fields import EventFields

__all__ = ["Comparison", "Difference", "compare"]

_COLUMNS: Final = ", ".join(EventFields._fields)
# The server sorts by bytes (COLLATE "C"), which is Python's order of code points.
_HASHES: Final = f"""
SELECT tenant_id, idempotency_key, encode(sha256(convert_to(ROW({_COLUMNS})::text, 'UTF8')), 'hex') AS hash
FROM penstock.events ORDER BY tenant_id, idempotency_key
"""
_ROW: Final = f"""
SELECT {", ".join(f"{name}::text" for name in EventFields._fields)}
FROM penstock.events WHERE tenant_id = $1 AND idempotency_key = $2 ORDER BY sequence LIMIT 1
"""
_LISTED: Final = 20  # differences that are named; the others are counted
_SORT: Final = 3600.0  # seconds for one answer: the first comes after all rows are sorted

Key = tuple[str, str]


class Difference(NamedTuple):
    """One key whose events differ. Values are left out: they may hold personal data."""

    tenant_id: str
    idempotency_key: str
    kind: str
    """missing (only the rebuild has it), different, or repeated (another number of equal events)."""
    columns: Sequence[str] = ()
    """Those that differ."""


@dataclass(slots=True)
class Comparison:
    """What the comparison found. Equal where `differences` counts nothing."""

    equal: int = 0
    """Events that are the same in both."""
    only_in_store: int = 0
    """Keys that the rebuild has not: of other topics, appended, stored since, or not in Kafka any more."""
    differences: Counter[str] = field(default_factory=Counter)
    """Keys by kind."""
    listed: list[Difference] = field(default_factory=list)
    """The first of them."""

    def as_json(self) -> Mapping[str, object]:
        """For programs."""
        return {
            "equal": self.equal,
            "only_in_store": self.only_in_store,
            **{kind: self.differences[kind] for kind in ("missing", "different", "repeated")},
            "differences": [item._asdict() for item in self.listed],
        }


async def compare(store: str, rebuilt: str) -> Comparison:
    """Compare the events of two databases, given as URLs. Raises what `connected` raises."""
    found = Comparison()
    async with connected(store, _SORT) as ours, connected(rebuilt, _SORT) as theirs:
        async with aclosing(_keys(ours)) as left, aclosing(_keys(theirs)) as right:
            await _merge(left, right, found)
        for index, item in enumerate(found.listed):
            if item.kind == "different":
                columns = await _columns(ours, theirs, item)
                found.listed[index] = item._replace(columns=columns)
    return found


async def _merge(
    left: AsyncIterator[tuple[Key, Counter[str]]],
    right: AsyncIterator[tuple[Key, Counter[str]]],
    found: Comparison,
) -> None:
    ours, theirs = await anext(left, None), await anext(right, None)
    while theirs is not None:
        if ours is not None and ours[0] < theirs[0]:
            found.only_in_store += 1
            ours = await anext(left, None)
            continue
        here = ours[1] if ours is not None and ours[0] == theirs[0] else Counter[str]()
        found.equal += (here & theirs[1]).total()
        if kind := _kind(here, theirs[1]):
            found.differences[kind] += 1
            if len(found.listed) < _LISTED:
                found.listed.append(Difference(*theirs[0], kind))
        if here:
            ours = await anext(left, None)
        theirs = await anext(right, None)
    while ours is not None:
        found.only_in_store += 1
        ours = await anext(left, None)


def _kind(ours: Counter[str], theirs: Counter[str]) -> str | None:
    if ours == theirs:
        return None
    if not ours:
        return "missing"
    return "repeated" if ours.keys() == theirs.keys() else "different"


async def _keys(connection: Any) -> AsyncGenerator[tuple[Key, Counter[str]]]:
    """Each key with the hashes of its events."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        key: Key | None = None
        hashes = Counter[str]()
        async for tenant_id, idempotency_key, digest in connection.cursor(_HASHES, prefetch=2000):
            if key is not None and key != (tenant_id, idempotency_key):
                yield key, hashes
                hashes = Counter()
            key = (tenant_id, idempotency_key)
            hashes[digest] += 1
        if key is not None:
            yield key, hashes


async def _columns(ours: Any, theirs: Any, item: Difference) -> Sequence[str]:
    rows = [await side.fetchrow(_ROW, item.tenant_id, item.idempotency_key) for side in (ours, theirs)]
    return [name for name in EventFields._fields if None in rows or rows[0][name] != rows[1][name]]
