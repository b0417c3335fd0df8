"""What PostgreSQL has accounted for: positions and outcomes of a topic, as the worker wrote them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, Self

import asyncpg

from penstock.errors import ServerUnavailableError
from penstock.redaction import redact
from penstock_store.driver import DRIVER_ERRORS

__all__ = ["Balance", "Books", "Counts"]

# One statement, so that positions and counts are of one moment.
_BALANCE = """
SELECT o.partition, o.next_offset,
       coalesce(sum(i.stored), 0)::bigint AS stored,
       coalesce(sum(i.duplicate), 0)::bigint AS duplicate,
       coalesce(sum(i.conflict), 0)::bigint AS conflict,
       coalesce(sum(i.dead_lettered), 0)::bigint AS dead_lettered,
       coalesce(sum(i.tombstone), 0)::bigint AS tombstone,
       coalesce(sum(i.lost), 0)::bigint AS lost
FROM penstock.offsets o
LEFT JOIN penstock.ingested i USING (group_id, cluster_id, topic, partition, topic_id)
WHERE o.group_id = $1 AND o.cluster_id = $2 AND o.topic = $3
GROUP BY o.partition, o.next_offset
"""
_CHANNEL = "penstock_events"  # a hint that something was committed, one a batch
_POLL = 0.5  # seconds between looks where no hint comes: a batch of duplicates publishes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Records by outcome."""

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    dead_lettered: int = 0
    tombstone: int = 0
    lost: int = 0

    @property
    def total(self) -> int:
        """All of them: each record has exactly one outcome."""
        return sum(getattr(self, item.name) for item in fields(self))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, earlier: "Counts") -> "Counts":
        return Counts(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One moment of a topic's books; a partition without position has not been claimed or stored yet."""

    positions: Mapping[int, int] = field(default_factory=dict)
    counts: Counts = Counts()

    def behind(self, ends: Mapping[int, int]) -> int:
        """Offsets below `ends` that are not accounted for."""
        return sum(max(0, end - self.positions.get(partition, 0)) for partition, end in ends.items())


class Books:
    """Reads the balance of one topic for one group; an async context manager with one connection.

    `dsn` needs the reader's privileges. Raises `ServerUnavailableError`; asyncpg's where PostgreSQL refuses.
    """

    def __init__(
        self, dsn: str, *, group_id: str, cluster_id: str, topic: str, timeout: float = 10.0
    ) -> None:
        self._dsn = dsn
        self._where = (group_id, cluster_id, topic)
        self._timeout = timeout
        self._connection: asyncpg.Connection[Any] | None = None
        self._hint = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            self._connection = await asyncpg.connect(
                self._dsn, timeout=self._timeout, command_timeout=self._timeout
            )
            await self._connection.add_listener(_CHANNEL, lambda *_: self._hint.set())
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresConnectionError,
            asyncpg.CannotConnectNowError,
        ) as error:
            raise ServerUnavailableError(
                f"PostgreSQL at {redact(self._dsn)} does not answer within {self._timeout:g} s "
                f"({error or type(error).__name__}). Start it (`penstock up`) or correct its URL."
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is None:
            return
        try:
            await self._connection.close(timeout=self._timeout)
        except DRIVER_ERRORS:
            self._connection.terminate()

    async def balance(self) -> Balance:
        """Positions and counts of this moment."""
        if self._connection is None:
            raise RuntimeError("Books is an async context manager: use it in `async with`")
        rows = await self._connection.fetch(_BALANCE, *self._where)
        sums = [sum(row[column] for row in rows) for column in range(2, 8)]
        names = (item.name for item in fields(Counts))
        return Balance(
            positions={
                row["partition"]: row["next_offset"] for row in rows if row["next_offset"] is not None
            },
            counts=Counts(**dict(zip(names, sums, strict=True))),
        )

    async def change(self) -> None:
        """Return when something may have changed: at a worker's hint, or after half a second at most."""
        try:
            async with asyncio.timeout(_POLL):
                await self._hint.wait()
        except TimeoutError:
            pass
        self._hint.clear()
