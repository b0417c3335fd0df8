"""The endpoint as an ASGI application: its routes, probes, and how faults become answers."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from penstock.metrics import gauge, process_registry
from penstock.registry import faults
from penstock.registry.middleware import PROBES, BasicAuthentication, Measured, RawPath
from penstock.registry.options import RegistryOptions
from penstock.registry.responses import RegistryResponse, fault_response
from penstock.registry.routes import router
from penstock.registry.storage import Storage
from penstock_schemas import metric_defs

__all__ = ["create_app"]

_log = structlog.get_logger(__name__)


def create_app(options: RegistryOptions) -> FastAPI:
    """The application; its lifespan opens and closes the connections to PostgreSQL."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await app.state.storage.open()
        try:
            yield
        finally:
            await app.state.storage.close()

    app = FastAPI(
        title="Penstock schema registry",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.options = options
    app.state.storage = Storage(options)
    app.include_router(router)
    metrics = process_registry("registry")
    _add_probes(app, metrics)
    _add_fault_handlers(app)
    app.add_middleware(BasicAuthentication, options=options)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(RawPath)  # added last, so it runs first
    return app


def _add_probes(app: FastAPI, metrics: CollectorRegistry) -> None:
    schemas = gauge(metric_defs.REGISTRY_SCHEMAS, metrics)

    async def live() -> Response:
        return RegistryResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        schemas.set(await request.app.state.storage.count())
        return RegistryResponse({"status": "ok"})

    async def scrape(request: Request) -> Response:
        with contextlib.suppress(
            faults.RegistryFault
        ):  # the other metrics are wanted most while PostgreSQL is away
            schemas.set(await request.app.state.storage.count())
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    probes: tuple[Callable[..., Awaitable[Response]], ...] = (live, ready, scrape)
    for path, answer in zip(PROBES, probes, strict=True):
        app.add_api_route(path, answer, methods=["GET"], include_in_schema=False)


def _add_fault_handlers(app: FastAPI) -> None:
    """Every answer but 2xx is Confluent's `{error_code, message}`, also those that the framework gives."""

    @app.exception_handler(faults.RegistryFault)
    async def known(_request: Request, error: faults.RegistryFault) -> Response:
        return fault_response(error)

    @app.exception_handler(HTTPException)
    async def from_framework(_request: Request, error: HTTPException) -> Response:
        text = f"HTTP {error.status_code} {HTTPStatus(error.status_code).phrase}"
        answer = fault_response(faults.RegistryFault(error.status_code, error.status_code, text))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, _error: RequestValidationError) -> Response:
        return fault_response(faults.unprocessable("A parameter of the request has the wrong form."))

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return fault_response(faults.bad_request("The request's body ended early."))  # seen by metrics only

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        _log.error("registry_fault", path=request.url.path, error=type(error).__name__)
        return fault_response(
            faults.RegistryFault(500, 50001, "A fault in the registry itself; its log says more.")
        )
