"""Producers in a forked child: librdkafka's threads do not exist there, so clients stay untouched."""

import ctypes
import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """What holds a client that a forked child must not use."""

    def _forget_client(self) -> object | None:
        """Let go of the client, so that the next use makes a new one; returns it."""


_live: "weakref.WeakSet[Forgetful]" = weakref.WeakSet()


def forget_in_children(holder: Forgetful) -> None:
    """Have `holder` forget its client in every child that this process forks from now on."""
    _live.add(holder)


def _forget_all() -> None:
    for holder in list(_live):
        client = holder._forget_client()
        if client is not None:
            # Never freed: destroying it would wait for threads that stayed with the parent.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


os.register_at_fork(after_in_child=_forget_all)
