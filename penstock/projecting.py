"""The projection process: runs projections of the user's code until SIGTERM, with their lag and the store's
figures as metrics."""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry

from penstock.cli.exit_codes import ExitCode
from penstock.errors import PenstockError
from penstock.metrics import counter, gauge, process_registry
from penstock.processes import on_signal, serving
from penstock.store_metrics import StoreCollector
from penstock_schemas import metric_defs
from penstock_store.errors import StoreError
from penstock_store.projections import Projection, ProjectionRunner, statuses
from penstock_store.store_contract import EventStore

__all__ = ["ProjectionNotFound", "ProjectionProcess", "find_projection", "project"]

_LOOK = 5.0  # seconds between two looks at the lag
_log = structlog.get_logger(__name__)


class ProjectionNotFound(PenstockError):
    """What was named is no projection, or its module cannot be imported."""

    exit_code = ExitCode.USAGE


def find_projection(reference: str) -> Projection:
    """The projection that `module:name` names; modules of the working folder are found too."""
    module_name, separator, name = reference.partition(":")
    if not separator or not name:
        raise ProjectionNotFound(
            f"{reference!r} does not name a projection: write module:name, such as shop.projections:orders"
        )
    if os.getcwd() not in sys.path:  # noqa: PTH109  text, as sys.path holds it
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        raise ProjectionNotFound(
            f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}. Run this in the"
            " folder that holds it, or install it here"
        ) from error
    if not isinstance(found, Projection):
        what = "is not there" if found is None else f"is no @projection, but {found!r}"
        raise ProjectionNotFound(
            f"{name!r} of module {module_name!r} {what}. Name a function under @projection"
        )
    return found


class ProjectionProcess:
    """Several projections at once. One that fails stops alone; the others go on."""

    def __init__(
        self,
        store: EventStore,
        projections: Sequence[Projection],
        registry: CollectorRegistry,
        *,
        skip: frozenset[int] = frozenset(),
        accept_loss: bool = False,
    ) -> None:
        self._store = store
        self._events = counter(metric_defs.PROJECTION_EVENTS, registry)
        self._position = gauge(metric_defs.PROJECTION_POSITION, registry)
        self._lag_events = gauge(metric_defs.PROJECTION_LAG_EVENTS, registry)
        self._lag_seconds = gauge(metric_defs.PROJECTION_LAG_SECONDS, registry)
        self._stopped = gauge(metric_defs.PROJECTION_STOPPED, registry)
        self._figures = StoreCollector()
        registry.register(self._figures)
        self._faults: dict[str, StoreError] = {}
        self._runners = {
            one.name: ProjectionRunner(
                store, one, skip=skip, accept_loss=accept_loss, done=self._counting(one.name)
            )
            for one in projections
        }
        for name in self._runners:
            self._stopped.labels(projection=name).set(0)

    def stop(self) -> None:
        """End; a batch under way is rolled back."""
        for runner in self._runners.values():
            runner.stop()

    def ready(self) -> str | None:
        """None while every projection runs or stands by."""
        return "; ".join(f"{name}: {error}" for name, error in self._faults.items()) or None

    async def run(self, *, once: bool = False) -> None:
        """Until `stop`, or until none runs any more. Raises the first fault."""
        measuring = asyncio.create_task(self._measure_for_ever(), name="projection-lag")
        try:
            await asyncio.gather(*(self._run(name, once) for name in self._runners))
        finally:
            measuring.cancel()
            with suppress(asyncio.CancelledError):
                await measuring
        for error in self._faults.values():
            raise error

    async def _run(self, name: str, once: bool) -> None:
        # a task of its own: it is what `stop` cancels
        task = asyncio.create_task(self._runners[name].run(once=once), name=f"projection-{name}")
        try:
            await task
        except StoreError as error:
            self._faults[name] = error
            self._stopped.labels(projection=name).set(1)
            _log.error("projection_stopped", projection=name, cause=str(error))

    def _counting(self, name: str) -> Callable[[int, int], None]:
        def done(count: int, sequence: int) -> None:
            self._events.labels(projection=name).inc(count)
            self._position.labels(projection=name).set(sequence)

        return done

    async def _measure_for_ever(self) -> None:
        while True:
            try:
                self._figures.update(await self._store.get_metrics())
                for status in await statuses(self._store):
                    if status.name in self._runners:
                        self._position.labels(projection=status.name).set(status.sequence)
                        self._lag_events.labels(projection=status.name).set(status.lag_events)
                        self._lag_seconds.labels(projection=status.name).set(status.lag_seconds)
            except StoreError as error:
                _log.warning("lag_unknown", cause=str(error))
            await asyncio.sleep(_LOOK)


async def project(
    store: EventStore,
    projections: Sequence[Projection],
    *,
    once: bool,
    skip: frozenset[int],
    accept_loss: bool,
    metrics_host: str,
    metrics_port: int | None,
) -> None:
    """The process: projections with telemetry, until SIGTERM or SIGINT."""
    registry = process_registry("projection")
    async with store:
        process = ProjectionProcess(store, projections, registry, skip=skip, accept_loss=accept_loss)
        ready = {"projections": process.ready}
        async with serving(registry, live={}, ready=ready, host=metrics_host, port=metrics_port):
            with on_signal(process.stop):
                await process.run(once=once)
