"""Checkpoints as files `checkpoints/<hash of the name>.json`, replaced whole or not at all.

Any process may keep one, also beside the writer: a lock file makes each change exclusive for a moment.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from penstock_store._local_checkpoints import (
    Change,
    LocalCheckpoints,
    decode_checkpoint,
    encode_checkpoint,
)
from penstock_store.checkpoint_records import CheckpointState
from penstock_store.file._segments import sync_directory
from penstock_store.read_errors import StoreUnavailable

__all__ = ["FileCheckpoints"]

_PATIENCE: Final = 10.0  # seconds that a change waits for another one, which takes milliseconds


class FileCheckpoints(LocalCheckpoints):
    """`expired`: the highest sequence that `max_files` removed."""

    def __init__(
        self, directory: Path, clock: Callable[[], datetime], expired: Callable[[], Awaitable[int]]
    ) -> None:
        super().__init__(clock)
        self._directory = directory / "checkpoints"
        self._expired = expired

    async def expired_through(self) -> int:
        """See `CheckpointRecords.expired_through`."""
        return await self._expired()

    async def read(self, name: str) -> CheckpointState | None:
        """See `CheckpointRecords.read`."""
        return await asyncio.to_thread(_read, self._path(name))

    async def all(self) -> list[CheckpointState]:
        """See `CheckpointRecords.all`."""
        return await asyncio.to_thread(self._all)

    def _all(self) -> list[CheckpointState]:
        found = (_read(path) for path in self._directory.glob("*.json"))
        return sorted((state for state in found if state is not None), key=lambda state: state.name)

    async def _change(self, name: str, change: Change) -> CheckpointState | None:
        try:
            return await asyncio.to_thread(self._change_now, name, change)
        except OSError as error:
            raise StoreUnavailable(
                f"The checkpoint {name!r} could not be written to {self._directory}: {error}."
            ) from error

    def _change_now(self, name: str, change: Change) -> CheckpointState | None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        with self._locked():
            found = _read(path)
            changed = change(found)
            if changed is None:
                return found
            part = path.with_suffix(".tmp")
            with part.open("wb") as out:
                out.write(encode_checkpoint(changed))
                out.flush()
                os.fsync(out.fileno())
            part.replace(path)
            sync_directory(self._directory)
            return changed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        end = time.monotonic() + _PATIENCE
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise StoreUnavailable(
                            f"Another process changed a checkpoint in {self._directory} for {_PATIENCE:g} s."
                            " Is it stopped? End it, and try again."
                        ) from None
                    time.sleep(0.005)
            yield
        finally:
            os.close(handle)

    def _path(self, name: str) -> Path:
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _read(path: Path) -> CheckpointState | None:
    try:
        return decode_checkpoint(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Taking it for none would do everything again.
        raise StoreUnavailable(
            f"The checkpoint in {path} cannot be read: {error}. Restore the file from a backup; without it"
            " the subscription begins anew."
        ) from error
