"""Locks between processes, held by the kernel: a process that dies releases its own."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from penstock.stack.errors import StackTimeoutError

__all__ = ["exclusive", "hold_shared", "release", "try_exclusive"]

_POLL_S: Final = 0.1


@contextmanager
def exclusive(path: Path, *, timeout_s: float, what: str) -> Iterator[None]:
    """Hold `path` alone; `what` names the thing locked in the error after `timeout_s`."""
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + timeout_s
        while not _flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise StackTimeoutError(
                    f"Another process has been busy with {what} for {timeout_s:.0f} s (lock {path}). "
                    "Wait for it to end, or end it, then try again."
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def hold_shared(path: Path, *, timeout_s: float) -> int:
    """Take a share of `path`, kept until `release` or the end of the process; returns its handle."""
    descriptor = _open(path)
    deadline = time.monotonic() + timeout_s
    while not _flock(descriptor, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise StackTimeoutError(f"Another process has kept {path} for {timeout_s:.0f} s; try again.")
        time.sleep(_POLL_S)
    return descriptor


def try_exclusive(path: Path) -> int | None:
    """A handle when nobody else holds or shares `path`, else none."""
    descriptor = _open(path)
    if _flock(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def release(handle: int) -> None:
    """Give back what `hold_shared` or `try_exclusive` returned."""
    os.close(handle)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
