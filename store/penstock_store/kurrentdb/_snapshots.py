"""Snapshots: the newest event of a stream for each key and state version, in a category of their own."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from kurrentdbclient import NewEvent
from kurrentdbclient import RecordedEvent as Stored

from penstock_store.kurrentdb._client import KurrentClient, RevisionMoved
from penstock_store.read_errors import StoreUnavailable
from penstock_store.store_contract import Snapshot

__all__ = ["Snapshots"]

_ATTEMPTS: Final = 8
_TYPE: Final = "penstock.snapshot"


class Snapshots:
    """`state` is JSON text, checked."""

    def __init__(self, client: KurrentClient, category: str) -> None:
        self._client = client
        self._category = f"{category}_snapshot"  # no event's stream begins so

    async def put(self, key: str, state: bytes, *, sequence: int, state_version: int) -> bool:
        """False where a newer one is kept."""
        stream = self._stream(key, state_version)
        head = json.dumps({"key": key, "sequence": sequence})
        event = NewEvent(type=_TYPE, data=state, metadata=head.encode(), content_type="application/json")
        for _ in range(_ATTEMPTS):
            kept = await self._newest(stream)
            if kept is not None and json.loads(kept.metadata)["sequence"] > sequence:
                return False
            revision = -1 if kept is None else kept.stream_position
            try:
                if kept is None:
                    await self._client.set_max_count(stream, 2)
                await self._client.append(stream, [event], revision)
            except RevisionMoved:
                continue
            return True
        raise StoreUnavailable(f"other snapshots of {key!r} were quicker. Nothing was stored: try again")

    async def get(self, key: str, state_version: int) -> Snapshot | None:
        """The newest one; None where there is none that can be read: the state can be folded again."""
        kept = await self._newest(self._stream(key, state_version))
        if kept is None or kept.recorded_at is None:
            return None
        try:
            head, state = json.loads(kept.metadata), json.loads(kept.data)
            return Snapshot(
                key=key,
                state=state,
                sequence=head["sequence"],
                state_version=state_version,
                taken_at=kept.recorded_at,
            )
        except (ValueError, KeyError, TypeError):
            return None

    async def _newest(self, stream: str) -> Stored | None:
        found = await self._client.read_stream(stream, None, limit=1, backwards=True)
        return found[0] if found else None

    def _stream(self, key: str, state_version: int) -> str:
        return f"{self._category}-{quote(key, safe='')}/{state_version}"
