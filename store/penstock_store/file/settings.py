"""How a directory of events is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from penstock_store.store_errors import InvalidSettings

__all__ = ["FileSettings"]

_LEAST_SIZE: Final = 4_096
_DAY: Final = 86_400.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """Raises `InvalidSettings` when made."""

    directory: Path | str
    read_only: bool = False  # any number of readers beside the one writer, also in other processes
    max_size: int = 64 * 2**20  # bytes of lines in a file; the batch that passes it still goes in whole
    max_files: int | None = None  # the oldest are removed, with their events and keys. None: nothing is
    compress: bool = True  # finished files become .jsonl.gz
    append_timeout: float = 30.0  # seconds until an append gives up waiting for the disk
    close_timeout: float = 30.0  # seconds that close() waits for what is under way
    poll_interval: float = 0.25  # seconds between a live reader's looks, where another process writes
    stream_chunk: int = 500  # events; a stream holds one chunk
    clock: Callable[[], datetime] = _utc_now

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))
        if self.max_size < _LEAST_SIZE:
            raise InvalidSettings(f"max_size must be at least {_LEAST_SIZE} bytes; got {self.max_size}")
        if self.max_files is not None and self.max_files < 2:
            raise InvalidSettings("max_files must be at least 2: the one written to, and one finished")
        for name in ("append_timeout", "close_timeout", "poll_interval"):
            if not 0 < getattr(self, name) <= _DAY:
                raise InvalidSettings(f"{name} must be more than 0 and at most a day, in seconds")
        if not 1 <= self.stream_chunk <= 100_000:
            raise InvalidSettings("stream_chunk must be from 1 to 100,000 events")

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.directory)
