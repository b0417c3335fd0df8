"""True of every request: its path stays encoded, it is measured, it may need credentials. Plain ASGI."""

import base64
import binascii
import secrets
from time import perf_counter
from urllib.parse import quote

from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.metrics import counter, histogram
from penstock.registry import faults
from penstock.registry.options import RegistryOptions
from penstock.registry.responses import fault_response
from penstock_schemas import metric_defs

__all__ = ["PROBES", "BasicAuthentication", "Measured", "RawPath"]

PROBES = ("/livez", "/readyz", "/metrics")


class RawPath:
    """Routes by the path as it was sent: a subject may hold an encoded slash, which must not split it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
            scope["path"] = raw.partition(b"?")[0].decode("latin-1")
        await self._app(scope, receive, send)


class Measured:
    """Counts and times each request by route, never by path: paths hold names that clients choose."""

    def __init__(self, app: ASGIApp, *, metrics: CollectorRegistry) -> None:
        self._app = app
        self._requests = counter(metric_defs.REGISTRY_REQUESTS, metrics)
        self._seconds = histogram(metric_defs.REGISTRY_REQUEST_SECONDS, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._requests.labels(route=route, status=str(status)).inc()
            self._seconds.labels(route=route).observe(perf_counter() - started)


class BasicAuthentication:
    """Demands the one user where options name one. Probes are open: they have no credentials."""

    def __init__(self, app: ASGIApp, *, options: RegistryOptions) -> None:
        self._app = app
        self._expected: bytes | None = None
        if options.user is not None and options.password is not None:
            self._expected = f"{options.user}:{options.password.get_secret_value()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = self._expected is not None and scope["type"] == "http" and scope["path"] not in PROBES
        if not guarded or secrets.compare_digest(_credentials(scope), self._expected or b""):
            await self._app(scope, receive, send)
            return
        answer = fault_response(faults.unauthorized())
        answer.headers["www-authenticate"] = 'Basic realm="schema registry"'
        await answer(scope, receive, send)


def _credentials(scope: Scope) -> bytes:
    scheme, _, encoded = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
