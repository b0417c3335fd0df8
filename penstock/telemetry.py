"""/metrics, /livez and /readyz of any Penstock process, served by a thread of its own.

Liveness and readiness are apart: `/livez` fails when the process is stuck and should be restarted, `/readyz`
when it cannot do its work now (PostgreSQL away, no partition yet) and a restart would not help.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from time import monotonic
from types import TracebackType
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from penstock.errors import PenstockError

__all__ = ["Check", "Heartbeat", "TelemetryError", "TelemetryServer"]

Check = Callable[[], str | None]
"""None when all is well, else what is wrong. Called on the server's thread; must not block."""

_Respond = Callable[[str, list[tuple[str, str]]], Any]


class TelemetryError(PenstockError):
    """The port of /metrics cannot be opened. Choose another, or 0 for a free one."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds: a silent client must not keep a thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds: not worth a line each."""


class TelemetryServer:
    """Serves `registry` and the checks until `close`; a context manager.

    `port` 0 takes a free one, which the property says. Raises `TelemetryError` where the port is taken.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        live: Mapping[str, Check] | None = None,
        ready: Mapping[str, Check] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._checks = {"/livez": dict(live or {}), "/readyz": {**(live or {}), **(ready or {})}}
        self._metrics = make_wsgi_app(registry)
        self._host = host
        try:
            self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_Handler)
        except (OSError, OverflowError) as error:
            raise TelemetryError(
                f"/metrics cannot be served on {host}:{port}: {error}. Another process may hold the port: "
                "choose another with --metrics-port, or 0 for a free one."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="telemetry", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        """Base URL, such as http://127.0.0.1:9464."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop answering and free the port; safe to call again."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(timeout=5)
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, environ: dict[str, Any], respond: _Respond) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, respond)
            return answer
        if path not in self._checks:
            return _send(respond, "404 Not Found", {"paths": ["/metrics", *self._checks]})
        failing = _run(self._checks[path])
        status = "503 Service Unavailable" if failing else "200 OK"
        return _send(respond, status, {"status": "failing" if failing else "ok", "failing": failing})


def _run(checks: Mapping[str, Check]) -> dict[str, str]:
    failing = {}
    for name, check in checks.items():
        try:
            fault = check()
        except Exception as error:  # a broken check is a failing one, not a broken server
            fault = f"the check itself failed: {type(error).__name__}"
        if fault is not None:
            failing[name] = fault
    return failing


def _send(respond: _Respond, status: str, body: object) -> list[bytes]:
    data = json.dumps(body).encode() + b"\n"
    respond(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


class Heartbeat:
    """Says whether the event loop still turns; `check` may be called from another thread.

    `limit` is in seconds; `clock` is monotonic.
    """

    def __init__(self, *, limit: float = 30.0, clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """Note that the loop turned."""
        self._last = self._clock()

    def check(self) -> str | None:
        """A `Check`: None while the last beat is younger than the limit."""
        silent = self._clock() - self._last
        return None if silent <= self._limit else f"the event loop has not turned for {silent:.0f} s"

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[Self]:
        """Beat from the running loop, several times per limit, until the block ends."""
        task = asyncio.create_task(self._forever(), name="heartbeat")
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _forever(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._limit / 10)
