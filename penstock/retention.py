"""The retention worker: plan, carry out, wait, again. A process of its own with a login of its own."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from prometheus_client import CollectorRegistry

from penstock.cli.exit_codes import ExitCode
from penstock.errors import PenstockError, ServerUnavailableError
from penstock.metrics import counter, gauge, histogram, process_registry
from penstock.processes import on_signal, serving
from penstock.redaction import redact
from penstock_schemas import metric_defs
from penstock_store.driver import DRIVER_ERRORS, SESSION
from penstock_store.errors import PartitionError
from penstock_store.partitions import PartitionState, clock, list_partitions
from penstock_store.retention import RetentionPlan, RetentionPolicy, RetentionReport, plan, run

__all__ = ["RetentionOptions", "RetentionRefused", "RetentionWorker", "maintain", "plan_now", "run_now"]

_log = structlog.get_logger(__name__)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)


class RetentionRefused(PenstockError):
    """PostgreSQL refuses: the login lacks the role penstock_retention, or the schema is not migrated."""

    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionOptions:
    """`dsn` is the retention login's, with its password; times are seconds. Raises `ValueError`."""

    dsn: str = field(repr=False)
    policy: RetentionPolicy = field(default_factory=RetentionPolicy)
    interval: float = 60.0
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.interval <= 86_400:
            raise ValueError(f"interval must be from 1 to 86,400 seconds; got {self.interval!r}")
        if self.timeout <= 0:
            raise ValueError(f"timeout must be positive; got {self.timeout!r}")


async def plan_now(options: RetentionOptions) -> RetentionPlan:
    """What a run would do now; changes nothing. Raises `ServerUnavailableError`, `RetentionRefused`."""
    async with _connected(options) as connection:
        return await _plan(connection, options)


async def run_now(options: RetentionOptions) -> tuple[RetentionPlan, RetentionReport]:
    """Plan and carry out once. Steps that failed are in the report. Raises as `plan_now` does."""
    async with _connected(options) as connection:
        decided = await _plan(connection, options)
        return decided, await run(decided, connection)


async def _plan(connection: "asyncpg.Connection[Any]", options: RetentionOptions) -> RetentionPlan:
    return plan(await list_partitions(connection), options.policy, await clock(connection))


@contextlib.asynccontextmanager
async def _connected(options: RetentionOptions) -> AsyncIterator["asyncpg.Connection[Any]"]:
    place = redact(options.dsn)
    try:
        connection = await asyncpg.connect(
            options.dsn,
            timeout=options.timeout,
            server_settings=SESSION | {"application_name": "penstock-retention"},
        )
    except _REFUSED as error:
        raise RetentionRefused(f"PostgreSQL at {place} refuses the login: {error}.") from error
    except DRIVER_ERRORS as error:
        raise ServerUnavailableError(
            f"PostgreSQL at {place} does not answer within {options.timeout:g} s "
            f"({error or type(error).__name__}). Start it, or correct PENSTOCK_RETENTION_DATABASE_URL."
        ) from error
    try:
        yield connection
    except PartitionError as error:
        if isinstance(error.__cause__, _REFUSED):
            raise RetentionRefused(
                f"PostgreSQL at {place} refuses: {error}. Migrate (penstock migrate) and use a login "
                "that has the role penstock_retention."
            ) from error
        raise
    finally:
        with contextlib.suppress(*DRIVER_ERRORS):
            await connection.close(timeout=options.timeout)
        connection.terminate()


class RetentionWorker:
    """Runs until `stop`; a failed run is tried again, sooner than the interval where that is long.

    `ready` is a check for /readyz. `clock` is Unix time in seconds.
    """

    def __init__(
        self,
        options: RetentionOptions,
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._clock = clock
        self._end = asyncio.Event()
        self._fault: str | None = "no run has ended yet"
        self._partitions = gauge(metric_defs.RETENTION_PARTITIONS, registry)
        self._dropped = counter(metric_defs.RETENTION_DROPPED, registry)
        self._expired = counter(metric_defs.RETENTION_EXPIRED, registry)
        self._last_run = gauge(metric_defs.RETENTION_LAST_RUN, registry)
        self._seconds = histogram(metric_defs.RETENTION_RUN_SECONDS, registry)
        self._failures = counter(metric_defs.RETENTION_FAILURES, registry)
        self._ahead = gauge(metric_defs.RETENTION_AHEAD, registry)

    def stop(self) -> None:
        """End after the step under way; safe to call from a signal handler of the loop."""
        self._end.set()

    def ready(self) -> str | None:
        """None while the last run succeeded."""
        return self._fault

    async def run(self) -> None:
        """Maintain partitions until `stop`. Raises `RetentionRefused`, which no further run would cure."""
        while not self._end.is_set():
            pause = self._options.interval if await self._once() else min(self._options.interval, _RETRY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._end.wait()

    async def _once(self) -> bool:
        try:
            with self._seconds.time():
                _, report = await run_now(self._options)
            after = await plan_now(self._options)
        except (ServerUnavailableError, PartitionError) as error:
            return self._failed(str(error))
        self._dropped.inc(len(report.dropped))
        self._expired.inc(sum(report.dropped.values()))
        self._measure(after)
        if report.failed:
            return self._failed("; ".join(f"{step}: {why}" for step, why in report.failed.items()))
        self._fault = None
        self._last_run.set(self._clock())
        if report.made or report.rolled or report.closed or report.dropped:
            _log.info(
                "retention_run",
                made=len(report.made),
                rolled=report.rolled,
                closed=len(report.closed),
                dropped=len(report.dropped),
            )
        return True

    def _failed(self, why: str) -> bool:
        self._failures.inc()
        self._fault = f"the last run failed: {redact(why)}"
        _log.warning("retention_run_failed", cause=why)
        return False

    def _measure(self, now: RetentionPlan) -> None:
        for state in (PartitionState.FUTURE, PartitionState.CURRENT, PartitionState.CLOSED):
            count = sum(decision.state is state for decision in now.decisions)
            self._partitions.labels(state=state.value).set(count)
        self._partitions.labels(state="expired").set(len(now.drop))
        last = max((decision.upper for decision in now.decisions), default=now.at)
        self._ahead.set(max(timedelta(0), last - now.at).total_seconds())


_RETRY = 15.0  # seconds: PostgreSQL is back, or another session's lock is gone


async def maintain(options: RetentionOptions, *, metrics_host: str, metrics_port: int | None) -> None:
    """The process: a worker with telemetry, until SIGTERM or SIGINT."""
    registry = process_registry("retention")
    worker = RetentionWorker(options, registry)
    ready = {"retention": worker.ready}
    async with serving(registry, live={}, ready=ready, host=metrics_host, port=metrics_port):
        with on_signal(worker.stop):
            await worker.run()
