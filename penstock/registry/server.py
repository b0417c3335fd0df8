"""Runs the endpoint in this process until SIGTERM or SIGINT."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from penstock.errors import PenstockError
from penstock.registry.app import create_app
from penstock.registry.options import RegistryOptions

__all__ = ["ListenError", "serve"]

_MAX_CONCURRENT = 512  # connections and requests; more are answered 503 rather than queued
_BACKLOG = 256


class ListenError(PenstockError):
    """The port cannot be listened on. Choose another, or 0 for a free one."""


def serve(options: RegistryOptions, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until told to stop; running requests get `options.stop_seconds`.

    `port` 0 takes a free one. `announce` is called with the base URL once connections are taken. Raises
    `ListenError`.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        create_app(options),
        log_config=None,  # the application's logging is set up already
        access_log=False,  # metrics count requests; a line each would drown the rest
        lifespan="on",
        limit_concurrency=_MAX_CONCURRENT,
        timeout_graceful_shutdown=max(1, round(options.stop_seconds)),
        server_header=False,
    )
    with listener, _sigterm_ends_well():
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _sigterm_ends_well() -> Iterator[None]:
    """uvicorn raises the signal again once it has stopped; by then there is nothing left to end."""
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ListenError(
            f"The schema registry cannot listen on {host}:{port}: {error}. Another process may hold the "
            "port: choose another with --port, or 0 for a free one."
        ) from error
