"""What a scenario works with: a topic, a database, producer, oracle and worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from pydantic import SecretStr

from chaos.load import events
from chaos.victim import LATE
from fixtures import ownership
from fixtures.databases import Database
from fixtures.oracle import Findings, Oracle
from fixtures.private_servers import PrivateKafka, PrivatePostgres
from fixtures.registries import serving_registry
from fixtures.tcp_proxy import TcpProxy, proxied
from fixtures.waiting import wait_for_async
from fixtures.workers import WorkerProcess
from penstock.reconcile import Scope, reconcile
from penstock.settings import Settings
from penstock_producer import Producer
from penstock_store.driver import DRIVER_ERRORS

__all__ = ["SESSION_TIMEOUT", "Rig", "Site", "rigged"]

# The least that a broker grants by default. A worker's own default is 10 s.
SESSION_TIMEOUT = 6.0
PARTITIONS = 6
_CHUNK = 200  # events emitted at a time
_PACE = 0.2  # seconds between chunks of a steady load
DEADLINE = 240.0  # for whatever has to happen in the end, on a busy machine
_SLOWEST = 2000  # events a second that a worker catches up with at least, whoever else uses the machine
_GROUP = {"session.timeout.ms": int(SESSION_TIMEOUT * 1000), "heartbeat.interval.ms": 1000}

T = TypeVar("T")


@dataclass(kw_only=True)
class Site:
    """Servers. `broker` and `server` where the scenario may stop them; `outage`: seconds of its long ones."""

    kafka: str
    database: Database | PrivatePostgres
    folder: Path
    broker: PrivateKafka | None = None
    server: PrivatePostgres | None = None
    disk: Path | None = None
    outage: float = 10.0
    events: int = 20_000


class Rig:
    """Made by `rigged`. Scenarios add to `recoveries`, `notes` and `faults`."""

    def __init__(self, site: Site, topic: str, registry: str, registry_link: TcpProxy, producer: Producer):
        self.site, self.topic, self.registry, self.registry_link = site, topic, registry, registry_link
        self.group = f"group-{topic}"
        self.producer = producer
        self.oracle = Oracle()
        self.chance = random.Random(topic)
        self.workers: list[WorkerProcess] = []
        self.recoveries: list[float] = []
        self.notes: dict[str, Any] = {}
        self.faults: list[str] = []
        self._events = events(seed=1)
        self._connection: asyncpg.Connection[Any] | None = None

    # ── servers that a scenario must have ──────────────────────────────────────────────────────────────────

    @property
    def broker(self) -> PrivateKafka:
        """The broker, to be killed."""
        assert self.site.broker, "this scenario needs a broker of its own"
        return self.site.broker

    @property
    def server(self) -> PrivatePostgres:
        """PostgreSQL, to be killed."""
        assert self.site.server, "this scenario needs a PostgreSQL of its own"
        return self.site.server

    @contextlib.contextmanager
    def database_link(self) -> Iterator[tuple[TcpProxy, str]]:
        """A proxy before PostgreSQL, and the writer's URL through it."""
        with proxied(self.site.database.writer_url) as link:
            yield link, link.url(self.site.database.writer_url)

    # ── workers ────────────────────────────────────────────────────────────────────────────────────────────

    def start(
        self,
        *,
        batch: int = 500,
        point: str = "",
        action: str = "kill",
        after: int = 0,
        sink: dict[str, float] | None = None,
        kafka: str | None = None,
        database: str | None = None,
        registry: str | None = None,
        options: tuple[str, ...] = (),
    ) -> WorkerProcess:
        """A worker that may end or stop itself at `point`; see `chaos.victim`."""
        environment = {
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka or self.site.kafka,
            "PENSTOCK_DATABASE_URL": self.site.database.url,
            "PENSTOCK_WORKER_DATABASE_URL": database or self.site.database.writer_url,
            "PENSTOCK_SCHEMA_REGISTRY_URL": registry or self.registry,
            "PENSTOCK_TOPICS": self.topic,
            "PENSTOCK_GROUP_ID": self.group,
            "PENSTOCK_KAFKA_CONFIG": json.dumps(_GROUP),
            "PENSTOCK_LOG_FORMAT": "json",
            "PENSTOCK_TIMEOUT_SECONDS": "5",
            "CHAOS_PARENT": str(os.getpid()),
            "CHAOS_POINT": point,
            "CHAOS_ACTION": action,
            "CHAOS_AFTER": str(after),
            "CHAOS_SINK": json.dumps(sink or {}),
        }
        log = self.site.folder / f"worker-{self.topic}-{len(self.workers)}.log"
        arguments = ["--batch-size", str(batch), *options]
        self.workers.append(WorkerProcess(arguments, environment, log, "chaos.victim"))
        return self.workers[-1]

    async def ready(self, worker: WorkerProcess) -> WorkerProcess:
        """The same worker, once it has partitions."""
        await self.until(lambda: asyncio.to_thread(worker.ready), f"worker {worker.pid} to be ready")
        return worker

    async def end(self, *workers: WorkerProcess) -> None:
        """SIGTERM; a fault where one does not end in good order."""
        for worker in workers:
            young = not worker.log.read_text()  # the interpreter was still importing
            code = await asyncio.to_thread(worker.terminate, 60)
            if code != (-signal.SIGTERM if young and code else 0):
                self.faults.append(f"a worker ended with {code} after SIGTERM: {worker.tail(800)}")

    @property
    def alive(self) -> list[WorkerProcess]:
        """Workers that run, or are stopped."""
        return [worker for worker in self.workers if worker.running]

    def members(self) -> list[str]:
        """The ids of the group's members; a member that was evicted comes back with another id."""
        admin = AdminClient({"bootstrap.servers": self.site.kafka, "log_level": 0})
        described = admin.describe_consumer_groups([self.group], request_timeout=10)[self.group].result(10)
        return sorted(member.member_id for member in described.members)

    # ── load ───────────────────────────────────────────────────────────────────────────────────────────────

    async def emit(self, count: int) -> None:
        """Emit, and wait until Kafka acknowledged."""
        chosen = list(islice(self._events, count))
        await asyncio.to_thread(self.oracle.emit, self.producer, chosen, DEADLINE)

    @contextlib.asynccontextmanager
    async def load(self, *, flat_out: bool = False) -> AsyncIterator[None]:
        """Emit for as long as the block lasts, steadily or as fast as it goes."""
        stopping = asyncio.Event()

        async def feed() -> None:
            while not stopping.is_set():
                await self.emit(_CHUNK * 10 if flat_out else _CHUNK)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 0 if flat_out else _PACE)

        feeding = asyncio.create_task(feed())
        try:
            yield
        finally:
            stopping.set()
            await feeding

    # ── looking ────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, question: Callable[[asyncpg.Connection[Any]], Awaitable[T]]) -> T | None:
        """PostgreSQL's answer on the superuser's connection; None while it is away."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self.site.database.admin_url, timeout=10, command_timeout=DEADLINE
                )
            return await question(self._connection)
        except DRIVER_ERRORS:
            if self._connection is not None:
                self._connection.terminate()
            self._connection = None
            return None

    async def until(self, condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
        """Wait for a true value."""
        return await wait_for_async(condition, deadline, what)

    async def fetchval(self, query: str) -> Any:
        """One value, or None while PostgreSQL is away."""
        return await self.ask(lambda connection: connection.fetchval(query))

    async def stored(self, rows: int) -> None:
        """Wait until so many events are stored in all."""

        async def enough() -> bool:
            return bool((await self.fetchval("SELECT count(*) FROM penstock.events") or 0) >= rows)

        await self.until(enough, f"{rows} rows")

    async def recovered(self, began: float) -> None:
        """Wait for the first batch written after `began` (seconds since 1970) and note how long it took."""

        async def moved() -> float | None:
            return await self.ask(lambda connection: ownership.first_move(connection, began))

        self.recoveries.append(float(await self.until(moved, "a first batch")) - began)

    async def settle(self) -> None:
        """Wait until every acknowledged record is accounted for."""

        async def everything() -> bool:
            return bool(await self.ask(self.oracle.stored_everything))

        deadline = DEADLINE + self.oracle.emitted / _SLOWEST
        await self.until(everything, "every acknowledged record to be accounted for", deadline)

    async def audit(self) -> Findings:
        """The oracle's findings and the rows of those who were no owners."""
        found = await self.ask(self.oracle.audit)
        stale = await self.ask(ownership.stale_rows)
        assert found is not None, "PostgreSQL is away"
        assert stale is not None, "PostgreSQL is away"
        found.stale_rows = stale
        return found

    async def reconcile(self) -> None:
        """A fault where `penstock reconcile --deep` would not say that the books balance."""
        settings = Settings(
            kafka_bootstrap_servers=self.site.kafka,
            reader_database_url=SecretStr(self.site.database.reader_url),
            topics=(self.topic,),
            group_id=self.group,
        )
        found = await reconcile(settings, Scope(deep=True))
        if not found.balanced:
            self.faults.append(f"the reconciliation does not balance: {found.problems}")

    def latest_call(self) -> float:
        """Seconds after its deadline at which the latest of all calls to PostgreSQL returned."""
        found = (re.findall(rf"^{LATE} ([\d.]+) s", worker.log.read_text(), re.M) for worker in self.workers)
        return max((float(text) for texts in found for text in texts), default=0.0)

    async def close(self) -> None:
        """End what is left."""
        for worker in self.alive:
            worker.kill()
        if self._connection is not None:
            self._connection.terminate()


@contextlib.asynccontextmanager
async def rigged(site: Site) -> AsyncIterator[Rig]:
    """A rig on a topic of its own."""
    topic = f"chaos-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": site.kafka, "log_level": 0})
    new = NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)
    await asyncio.to_thread(lambda: admin.create_topics([new], operation_timeout=30)[topic].result(30))
    try:
        with (
            serving_registry(site.database.registry_url) as registry,
            proxied(registry) as link,
            Producer(
                site.kafka, topic=topic, schema_registry_url=registry, delivery_timeout=DEADLINE
            ) as producer,
        ):
            rig = Rig(site, topic, registry, link, producer)
            try:
                await rig.ask(ownership.watch)
                yield rig
            finally:
                await rig.close()
    finally:
        doomed = [name for name in admin.list_topics(timeout=30).topics if name.startswith(topic)]
        for future in admin.delete_topics(doomed, operation_timeout=30).values():
            future.result(30)
