"""The servers and the loaded topic that a run measures on; what it made it removes."""

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
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.events import events
from penstock import stack
from penstock_consumer.topics import TopicSpec
from penstock_producer import Producer
from penstock_store import migrations

_STACK = "bench"
_DEADLINE = 60.0


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Addresses, and the topic that holds `count` encoded events."""

    kafka: str
    registry: str
    admin_url: str
    owner_url: str
    worker_url: str
    topic: str
    count: int

    @contextmanager
    def database(self, indexes: str) -> Iterator[str]:
        """A migrated database whose partitions get the index set `indexes`; yields its name."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        owner = urlsplit(self.owner_url).username
        _execute(_of(self.admin_url, "postgres"), f"CREATE DATABASE {name} OWNER {owner}")
        try:
            migrations.upgrade(_of(self.owner_url, name))
            _execute(
                _of(self.owner_url, name), f"UPDATE penstock.settings SET leaf_indexes = '{{{indexes}}}'"
            )
            yield name
        finally:
            _execute(_of(self.admin_url, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")

    def admin(self, database: str) -> str:
        return _of(self.admin_url, database)

    @contextmanager
    def worker(self, database: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A `penstock worker` process on the loaded topic, as a user starts it."""
        environment = {
            **os.environ,
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "PENSTOCK_DATABASE_URL": _of(self.owner_url, database),
            "PENSTOCK_WORKER_DATABASE_URL": _of(self.worker_url, database),
            "PENSTOCK_SCHEMA_REGISTRY_URL": self.registry,
            "PENSTOCK_TOPICS": self.topic,
            "PENSTOCK_GROUP_ID": f"bench-{uuid.uuid4().hex[:8]}",
        }
        command = [sys.executable, "-m", "penstock", "worker", "--metrics-port", "0", *arguments]
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


@contextmanager
def servers(count: int) -> Iterator[Servers]:
    """Start (or find) the servers and load a topic with `count` events."""
    found = stack.ensure(_STACK, want=("kafka", "postgresql", "registry"))
    assert found.kafka
    assert found.admin_url
    assert found.database_url
    assert found.worker_database_url
    assert found.schema_registry_url
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": found.kafka})
    made = NewTopic(topic, num_partitions=6, replication_factor=1, config=TopicSpec().config())
    admin.create_topics([made])[topic].result(_DEADLINE)
    try:
        with Producer(found.kafka, topic=topic, schema_registry_url=found.schema_registry_url) as producer:
            for event in events(count):
                producer.emit(event)
            producer.flush(_DEADLINE)
        yield Servers(
            kafka=found.kafka,
            registry=found.schema_registry_url,
            admin_url=found.admin_url,
            owner_url=found.database_url,
            worker_url=found.worker_database_url,
            topic=topic,
            count=count,
        )
    finally:
        admin.delete_topics([topic])[topic].result(_DEADLINE)


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
