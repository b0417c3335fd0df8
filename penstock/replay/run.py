"""Carrying a plan out: settings into clients, the run, what a person sees of it."""

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.processes import on_signal
from penstock.replay.plan import Plan
from penstock.replay.report import ReplayReport
from penstock.settings import Settings
from penstock.worker import WorkerChoices, worker_settings
from penstock_consumer.replay import ReplayEnd, ReplayOptions, run_replay
from penstock_consumer.replay.letters import NewLetters, NoLetters
from penstock_schemas.registry import AsyncSchemaSource
from penstock_store.ingest import Outcome, SinkSettings, WriteResult
from penstock_store.ingest.replay import ReplayRequest

__all__ = ["RunSummary", "replay"]


@dataclass(slots=True)
class RunSummary:
    """What a run came to; number 0: there was nothing to do."""

    run: int = 0
    offsets: int = 0
    """Accounted for."""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, Outcome), 0))
    end: ReplayEnd = ReplayEnd.STOPPED
    expired: bool = False
    """It opened the books of what retention had dropped."""

    def add(self, offsets: int, result: WriteResult) -> None:
        """One more batch."""
        self.offsets += offsets
        for outcome in Outcome:
            self.counts[outcome] += result.total(outcome)

    def as_json(self) -> Mapping[str, object]:
        """For programs."""
        return {"run": self.run or None, "state": str(self.end), "offsets": self.offsets, **self.counts}


async def replay(
    settings: Settings,
    plan: Plan,
    options: ReplayOptions,
    report: ReplayReport,
    *,
    dsn: str,
    quiet: bool = False,
) -> RunSummary:
    """Fill the gaps of `plan` in the database of `dsn`, until done or SIGTERM. `quiet`: no dead letters.

    Raises what `run_replay` raises.
    """
    request: ReplayRequest = plan.request()
    summary, stop = RunSummary(expired=plan.asked.expired), asyncio.Event()
    topics = tuple(dict.fromkeys(ref.topic for ref in request.bounds))
    worker = worker_settings(settings.model_copy(update={"topics": topics}), WorkerChoices())
    places = [(ref.topic, ref.partition) for ref in request.bounds]
    letters = NoLetters() if quiet else NewLetters(worker, places)
    from penstock_schemas.registry import SchemaRegistry  # half a second that only this run needs

    schemas = SchemaRegistry(settings.registry(), timeout=settings.timeout_seconds)

    def began(run: int) -> None:
        summary.run = run
        report.began(run)

    def written(offsets: int, result: WriteResult) -> None:
        summary.add(offsets, result)
        report.progress(summary.offsets, sum(summary.counts.values()))

    try:
        with on_signal(stop.set), report:
            summary.end = await run_replay(
                request,
                options,
                worker,
                sink=SinkSettings(
                    dsn=dsn,
                    group_id=settings.group_id,
                    worker_name=f"replay {socket.gethostname()}:{os.getpid()}",
                    connect_timeout=settings.timeout_seconds,
                ),
                schemas=AsyncSchemaSource(schemas, deadline=settings.timeout_seconds),
                dead_letters=letters,
                stop=stop,
                began=began,
                written=written,
            )
    finally:
        await letters.close()
        schemas.close()
    return summary
