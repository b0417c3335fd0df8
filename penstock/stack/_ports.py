"""Free TCP ports on the loopback interface."""

import random
import socket

from penstock.stack.errors import StackError

__all__ = ["HOST", "free_port", "is_free"]

HOST = "127.0.0.1"

# Below the ephemeral ranges of Linux and macOS (32768, 49152): no outgoing connection takes the port between
# its choice and the server's bind, nor while the stack is down and its port is kept for the next `up`.
_FIRST, _LAST = 18_000, 31_999
_ATTEMPTS = 200


def free_port(taken: set[int] | None = None) -> int:
    """A port that nobody listens on now. The server's own bind is what decides; callers retry on a clash."""
    choice = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = choice.randint(_FIRST, _LAST)
        if port not in (taken or ()) and is_free(port):
            return port
    raise StackError(
        f"No free TCP port found on {HOST} between {_FIRST} and {_LAST} after {_ATTEMPTS} attempts."
    )


def is_free(port: int) -> bool:
    """Whether a server could bind `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
