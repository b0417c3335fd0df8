"""The servers that a run measures on, its databases and topics; what it made it removes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from confluent_kafka.admin import AdminClient

from benchmarks.events import Load, events
from penstock import stack
from penstock_consumer.topics import TopicSpec
from penstock_producer import Producer
from penstock_store import migrations

_STACK = "bench"
_DEADLINE = 60.0
_LOADED = 600.0


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A loaded topic: how many records it holds, and how many events that differ."""

    name: str
    partitions: int
    records: int
    events: int


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Addresses."""

    kafka: str
    registry: str
    admin_url: str
    owner_url: str
    worker_url: str

    @contextmanager
    def topic(self, load: Load | None = None, *, partitions: int = 6) -> Iterator[Topic]:
        """A topic of its own, with the events of `load` in it; without one it is empty."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": self.kafka})
        made = TopicSpec(partitions=partitions, replication=1, max_message_bytes=1024 * 1024).topic(name)
        admin.create_topics([made])[name].result(_DEADLINE)
        try:
            ids = self._emit(name, load) if load else set()
            yield Topic(name=name, partitions=partitions, records=load.count if load else 0, events=len(ids))
        finally:
            admin.delete_topics([name])[name].result(_DEADLINE)

    def _emit(self, topic: str, load: Load) -> set[bytes]:
        ids: set[bytes] = set()
        # Kafka's batches as a busy topic has them, of some hundred records, however slow this one loader is.
        loader = Producer(self.kafka, topic=topic, schema_registry_url=self.registry, linger=0.2)
        with loader as producer:
            for event in events(load):
                producer.emit(event)
                ids.add(event.event_id.bytes)
            producer.flush(_LOADED)
        return ids

    @contextmanager
    def database(self, indexes: str, *, like: str | None = None) -> Iterator[str]:
        """A migrated database whose partitions get the index set `indexes`, or a copy of the database `like`;
        yields its name.
        """
        name = f"bench_{uuid.uuid4().hex[:12]}"
        make = f"CREATE DATABASE {name} OWNER {urlsplit(self.owner_url).username}"
        copied = f" TEMPLATE {like} STRATEGY file_copy" if like else ""
        _execute(_of(self.admin_url, "postgres"), make + copied)
        try:
            if not like:
                migrations.upgrade(_of(self.owner_url, name))
                chosen = f"UPDATE penstock.settings SET leaf_indexes = '{{{indexes}}}'"
                _execute(_of(self.owner_url, name), chosen)
            yield name
        finally:
            _execute(_of(self.admin_url, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")

    def admin(self, database: str) -> str:
        return _of(self.admin_url, database)

    @contextmanager
    def worker(
        self, database: str, topic: str, group: str, *arguments: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A `penstock worker` process, as a user starts it."""
        environment = {
            **os.environ,
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "PENSTOCK_DATABASE_URL": _of(self.owner_url, database),
            "PENSTOCK_WORKER_DATABASE_URL": _of(self.worker_url, database),
            "PENSTOCK_SCHEMA_REGISTRY_URL": self.registry,
            "PENSTOCK_TOPICS": topic,
            "PENSTOCK_GROUP_ID": group,
        }
        command = [sys.executable, "-m", "penstock", "worker", *(arguments or ("--metrics-port", "0"))]
        with tempfile.NamedTemporaryFile(prefix="penstock-bench-", suffix=".log") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                yield process
            except Exception as error:
                error.add_note(Path(log.name).read_text(errors="replace")[-4000:])
                raise
            finally:
                process.terminate()
                process.wait(_DEADLINE)


def servers() -> Servers:
    """Start the servers, or find them."""
    found = stack.ensure(_STACK, want=("kafka", "postgresql", "registry"))
    assert found.kafka
    assert found.admin_url
    assert found.database_url
    assert found.worker_database_url
    assert found.schema_registry_url
    return Servers(
        kafka=found.kafka,
        registry=found.schema_registry_url,
        admin_url=found.admin_url,
        owner_url=found.database_url,
        worker_url=found.worker_database_url,
    )


def _of(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _execute(url: str, statement: str) -> None:
    import asyncio

    async def run() -> None:
        connection = await asyncpg.connect(url, timeout=10, command_timeout=_DEADLINE)
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=5)

    asyncio.run(run())
