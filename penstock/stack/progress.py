"""How a starting stack tells what it is doing; the command line draws it, tests print it or ignore it."""

from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Progress", "Step", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """`server` is kafka, postgresql or an application's name; `text` what is being done, or the address."""

    server: str
    state: Literal["working", "ready", "stopped"]
    text: str


class Progress(Protocol):
    """Called from the thread that asked for the stack, and from one thread per server."""

    def __call__(self, step: Step, /) -> None: ...


def ignore(step: Step, /) -> None:
    """Tell nobody."""
