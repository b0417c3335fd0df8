"""Snapshots as files `snapshots/<hash of the key>-<state version>.json`, replaced whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path

from penstock_store.file._segments import sync_directory
from penstock_store.store_contract import Snapshot

__all__ = ["read_snapshot", "write_snapshot"]


def _path(directory: Path, key: str, state_version: int) -> Path:
    return directory / "snapshots" / f"{hashlib.sha256(key.encode()).hexdigest()}-{state_version}.json"


def read_snapshot(directory: Path, key: str, state_version: int) -> Snapshot | None:
    """A file that cannot be read as a snapshot counts as none: the state can be folded again."""
    try:
        loaded = json.loads(_path(directory, key, state_version).read_bytes())
        if loaded["key"] != key:
            return None
        return Snapshot(
            key=key,
            state=loaded["state"],
            sequence=loaded["sequence"],
            state_version=state_version,
            taken_at=datetime.fromisoformat(loaded["taken_at"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_snapshot(
    directory: Path, key: str, state: bytes, *, sequence: int, state_version: int, taken_at: datetime
) -> bool:
    """False where a newer one is there. One call at a time."""
    kept = read_snapshot(directory, key, state_version)
    if kept is not None and kept.sequence > sequence:
        return False
    path = _path(directory, key, state_version)
    path.parent.mkdir(exist_ok=True)
    head = json.dumps({"key": key, "sequence": sequence, "taken_at": taken_at.isoformat()})
    part = path.with_suffix(".tmp")
    with part.open("wb") as out:
        out.write(b'%b,"state":%b}\n' % (head[:-1].encode(), state))
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    sync_directory(path.parent)
    return True
