"""Long-running commands: signals, telemetry and the end, the same for each of them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import FrameType

import typer
from prometheus_client import CollectorRegistry

from penstock.telemetry import Check, Heartbeat, TelemetryServer

__all__ = ["on_signal", "serving", "sigterm_interrupts"]


@contextlib.contextmanager
def on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the running loop at the first SIGTERM or SIGINT; a second one ends the process."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
        stop()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, first)
    try:
        yield
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)


@contextlib.asynccontextmanager
async def serving(
    registry: CollectorRegistry,
    *,
    live: Mapping[str, Check],
    ready: Mapping[str, Check],
    host: str,
    port: int | None,
) -> AsyncIterator[TelemetryServer | None]:
    """Serve telemetry and print its address where a port is asked for; beats for the event loop itself."""
    if port is None:
        yield None
        return
    heart = Heartbeat()
    server = TelemetryServer(
        registry=registry, live={"event_loop": heart.check, **live}, ready=ready, host=host, port=port
    )
    with server:
        typer.echo(f"Metrics: {server.url}/metrics (also /livez, /readyz)", err=True)
        async with heart.beating():
            yield server


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a blocking command as Ctrl-C does: it tidies up and says how far it came."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
