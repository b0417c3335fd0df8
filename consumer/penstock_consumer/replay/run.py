"""One replay, wired: the worker's engine with a source and a sink that know of gaps."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from random import SystemRandom

import structlog
from prometheus_client import CollectorRegistry

from penstock_consumer._ending import in_time, run_until
from penstock_consumer._thread import OneThread
from penstock_consumer.engine import Engine
from penstock_consumer.errors import ReplayTakenOver, SinkFailed
from penstock_consumer.health import WorkerHealth
from penstock_consumer.interfaces import DeadLetterSink, SchemaSource, TopicPartition
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.replay.course import Course
from penstock_consumer.replay.sink import GapSink
from penstock_consumer.replay.source import ReplaySource
from penstock_consumer.settings import WorkerSettings
from penstock_consumer.trial import TrialDecoder
from penstock_consumer.worker import SystemClock
from penstock_schemas.decoder import Decoder
from penstock_store.errors import ReplaySuperseded, SinkBroken, SinkError, SinkUnavailable
from penstock_store.ingest import SinkSettings, WriteResult
from penstock_store.ingest.replay import ReplayRequest, ReplaySink

__all__ = ["ReplayEnd", "ReplayOptions", "run_replay"]

log = structlog.get_logger(__name__)

_BEAT = 3.0  # seconds between two signs of life


class ReplayEnd(StrEnum):
    """How a run ended, in the words of `penstock.replays.state`."""

    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How to replay."""

    rate: float | None = None
    """Records a second at most; None: as fast as it goes."""
    take_over: bool = False
    """Begin although another run is alive on one of the partitions; that one ends."""


async def run_replay(
    request: ReplayRequest,
    options: ReplayOptions,
    settings: WorkerSettings,
    *,
    sink: SinkSettings,
    schemas: SchemaSource,
    dead_letters: DeadLetterSink,
    stop: asyncio.Event,
    began: Callable[[int], None],
    written: Callable[[int, WriteResult], None],
) -> ReplayEnd:
    """Fill the gaps of `request`, until none is left or `stop` is set.

    `settings.group_id` and `sink.group_id` name the group that is replayed for. `began` hears the run's
    number, `written` each batch: offsets accounted for, and what they came to. What is committed stays,
    however the run ends; another one goes on from there. A stop takes `settings.grace` and six seconds at
    most. Raises what `run_worker` raises, ReplayInTheWay, and `ReplayTakenOver`.
    """
    # A claim of an earlier replay may be of the topic's namesake; nothing is lost by forgetting it.
    settings = replace(settings, accept_loss=frozenset({"*"}))
    asked = {TopicPartition(ref.topic, ref.partition): bounds for ref, bounds in request.bounds.items()}
    store, course, clock = ReplaySink(sink), Course(asked), SystemClock()
    metrics = WorkerMetrics(CollectorRegistry())
    decode, decoder = OneThread("decode"), Decoder()
    careful = TrialDecoder(decoder)
    source = ReplaySource(settings, metrics, course, clock, rate=options.rate, finished=lambda: engine.stop())
    engine = Engine(
        source=source,
        sink=GapSink(store, course, written),
        dead_letters=dead_letters,
        schemas=schemas,
        decoder=decoder,
        careful=careful,
        clock=clock,
        offload=decode.run,
        random=SystemRandom(),
        settings=settings,
        metrics=metrics,
        health=WorkerHealth(clock.monotonic),
    )

    async def work() -> None:
        try:
            await store.open()
            began(await store.begin(request, take_over=options.take_over))
            async with _written_down(store, course), _alive(store):
                await run_until(engine, stop)
        except SinkBroken as error:
            raise SinkFailed(str(error)) from error
        finally:
            await store.close()
            decode.close()
            careful.close()

    await in_time(work(), stop, settings.grace)
    return ReplayEnd.FINISHED if course.finished else ReplayEnd.STOPPED


@contextlib.asynccontextmanager
async def _written_down(store: ReplaySink, course: Course) -> AsyncIterator[None]:
    """Enter how the run ended. A database that is away does not learn it: the run counts as dead then."""
    try:
        yield
    except Exception as error:
        superseded = isinstance(error.__cause__, ReplaySuperseded)
        if not superseded:
            log.warning("replay_failed", cause=str(error))
        with contextlib.suppress(SinkError):
            await store.end("failed", str(error))
        if superseded:
            raise ReplayTakenOver(str(error)) from error.__cause__
        raise
    with contextlib.suppress(SinkError):
        await store.end("finished" if course.finished else "stopped")


@contextlib.asynccontextmanager
async def _alive(store: ReplaySink) -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            await asyncio.sleep(_BEAT)
            with contextlib.suppress(SinkUnavailable):
                await store.seen()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
