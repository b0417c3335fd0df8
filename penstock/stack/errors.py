"""What can go wrong with the local stack."""

from typing import ClassVar

from penstock.cli.exit_codes import ExitCode
from penstock.errors import PenstockError

__all__ = [
    "MissingRequirementError",
    "ServerStartError",
    "StackError",
    "StackTimeoutError",
    "UnknownNameError",
]


class StackError(PenstockError):
    """The local stack cannot do what was asked. The text says which server, why and what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNAVAILABLE


class UnknownNameError(StackError):
    """A name that no stack or no server can have."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class MissingRequirementError(StackError):
    """A program that a native server needs is missing. Install what the text names, or give an address."""


class ServerStartError(StackError):
    """A server ended while it was starting. The end of its log is part of the text."""


class StackTimeoutError(StackError):
    """A server was started but did not answer in time, or another process keeps the stack's lock."""
