"""One worker process, wired: Kafka, PostgreSQL, the schema registry, signals."""

import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from random import Random, SystemRandom

import structlog
from prometheus_client import CollectorRegistry

from penstock_consumer._ending import in_time, run_until
from penstock_consumer._thread import OneThread
from penstock_consumer.backoff import Backoff
from penstock_consumer.dead_letters import KafkaDeadLetters
from penstock_consumer.engine import Engine
from penstock_consumer.errors import SinkFailed, SourceUnavailable
from penstock_consumer.health import WorkerHealth
from penstock_consumer.interfaces import SchemaSource
from penstock_consumer.kafka_source import KafkaSource
from penstock_consumer.metrics import WorkerMetrics
from penstock_consumer.settings import WorkerSettings
from penstock_consumer.topics import ensure_topics
from penstock_consumer.trial import TrialDecoder
from penstock_schemas.decoder import Decoder
from penstock_schemas.limits import DecodeLimits
from penstock_store.errors import SinkBroken, SinkUnavailable
from penstock_store.ingest import PostgresSink, SinkSettings

__all__ = ["ExitReason", "SystemClock", "run_worker"]

log = structlog.get_logger(__name__)


class ExitReason(StrEnum):
    """Why `run_worker` returned."""

    SIGNAL = "signal"
    """SIGTERM or SIGINT."""
    ASKED = "asked"
    """The `stop` event that was passed in."""


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def time(self) -> float:
        """See `Clock`."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(seconds)


async def run_worker(
    settings: WorkerSettings,
    *,
    sink: SinkSettings,
    schemas: SchemaSource,
    registry: CollectorRegistry | None = None,
    health: WorkerHealth | None = None,
    stop: asyncio.Event | None = None,
    limits: DecodeLimits | None = None,
    signals: bool = True,
) -> ExitReason:
    """Ingest until SIGTERM, SIGINT or `stop`; then write what is decoded, release the claims and leave the
    group.

    `registry` and `health` are what the telemetry endpoint reads. With `signals` (main thread only) the two
    signals are handled meanwhile; a second one stops without waiting. Raises `ConsumerError` where going on
    makes no sense: its message says what to do. While Kafka, PostgreSQL or the registry are away the worker
    waits.
    """
    stop = stop or asyncio.Event()
    metrics = WorkerMetrics(registry or CollectorRegistry())
    health = health or WorkerHealth(time.monotonic)
    random = SystemRandom()

    async def work() -> None:
        if not await _topics_ready(settings, stop, random):
            return
        postgres = PostgresSink(sink)
        letters = KafkaDeadLetters(settings)
        decode = OneThread("decode")
        decoder = Decoder(limits)
        careful = TrialDecoder(decoder, limits)
        engine = Engine(
            source=KafkaSource(settings, metrics),
            sink=postgres,
            dead_letters=letters,
            schemas=schemas,
            decoder=decoder,
            careful=careful,
            clock=SystemClock(),
            offload=decode.run,
            random=random,
            settings=settings,
            metrics=metrics,
            health=health,
        )
        try:
            await _open(postgres, health, metrics)
            await run_until(engine, stop)
        finally:
            await letters.close()
            await postgres.close()
            decode.close()
            careful.close()

    with _stopping_by_signal(stop, signals) as received, _collecting_less_often(), _switching_sooner():
        await in_time(work(), stop, settings.grace)
        log.info("worker_stopped", reason=str(_reason(received)))
        return _reason(received)


async def _open(postgres: PostgresSink, health: WorkerHealth, metrics: WorkerMetrics) -> None:
    """So that a wrong login or schema shows before the group is joined. PostgreSQL may be away: the engine
    waits.
    """
    try:
        await postgres.open()
    except SinkBroken as error:
        raise SinkFailed(str(error)) from error
    except SinkUnavailable as error:
        log.warning("postgresql_away", cause=str(error))
    else:
        health.database_up = True
        metrics.database_up.set(1)


async def _topics_ready(settings: WorkerSettings, stop: asyncio.Event, random: Random) -> bool:
    """Whether topics are there; False where the worker was stopped before."""
    backoff, told = Backoff(random), False

    def tell(said: str) -> None:
        nonlocal told
        if not told:
            log.warning("kafka_silent", cause=said)
        told = True

    while not stop.is_set():
        try:
            for difference in await ensure_topics(settings, tell=tell):
                log.warning("topic_differs", difference=str(difference))
        except SourceUnavailable as error:
            log.warning("kafka_away", cause=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), backoff.next())
        else:
            return True
    return False


@contextlib.contextmanager
def _collecting_less_often() -> Iterator[None]:
    """A batch is hundreds of thousands of objects that make no cycles: walking them cost 15 % of the worker's
    CPU (11.7 against 9.9 µs a record; as with collection off, and in the same memory).
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextlib.contextmanager
def _switching_sooner() -> Iterator[None]:
    """The decode thread may keep the interpreter for the switch interval, 5 ms, each time the loop has more
    of a COPY to send, and PostgreSQL waits meanwhile. With full indexes 0.5 ms gave 45k to 51k events/s,
    5 ms 40k.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@contextlib.contextmanager
def _stopping_by_signal(stop: asyncio.Event, signals: bool) -> Iterator[list[int]]:
    loop = asyncio.get_running_loop()
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT) if signals else ()

    def handle(number: int) -> None:
        received.append(number)
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()
        loop.remove_signal_handler(number)  # the next one ends the process

    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield received
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _reason(received: list[int]) -> ExitReason:
    return ExitReason.SIGNAL if received else ExitReason.ASKED
