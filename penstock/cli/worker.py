"""`penstock worker`: Kafka to PostgreSQL, one process."""

import asyncio
from typing import Annotated, Literal

import typer

from penstock.cli.options import (
    DatabaseOption,
    KafkaOption,
    MetricsPortOption,
    RegistryOption,
    StackOption,
    TopicsOption,
)
from penstock.settings import load_settings

__all__ = ["register"]

_BATCHES = "Batches"
_NEW_TOPICS = "Topics that do not exist yet"


def register(app: typer.Typer) -> None:
    """Mount `penstock worker`."""
    app.command("worker")(_worker)


GroupOption = Annotated[str | None, typer.Option("--group", "-g", help="Consumer group (default: penstock).")]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        max=1_000_000,
        help="Records a batch at most (default: 24,000).",
        rich_help_panel=_BATCHES,
    ),
]
LingerOption = Annotated[
    float | None,
    typer.Option(
        "--linger",
        min=0,
        max=60,
        metavar="SECONDS",
        help="How long an idle writer waits for company to a first record (default: 0.01).",
        rich_help_panel=_BATCHES,
    ),
]
DedupeOption = Annotated[
    float | None,
    typer.Option("--dedupe-window", metavar="HOURS", help="A key is stored once within it (default: 24)."),
]
StartOption = Annotated[
    Literal["earliest", "latest"],
    typer.Option("--start", help="Where a partition begins of which PostgreSQL holds no position."),
]
ConflictsOption = Annotated[
    Literal["dead_letter", "report"],
    typer.Option("--conflicts", help="A known key with other content: dead-letter it too, or only report."),
]
ShareOption = Annotated[
    float,
    typer.Option(
        "--dead-letter-share", min=0.001, max=1, help="Stop above this share of bad records; 1: never."
    ),
]
LossOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-loss",
        metavar="TOPIC:PARTITION",
        help="Go on although Kafka lost records of it; * for all. Repeat for several.",
    ),
]
PartitionsOption = Annotated[
    int, typer.Option("--partitions", min=1, help="How many to make.", rich_help_panel=_NEW_TOPICS)
]
ReplicationOption = Annotated[
    int | None,
    typer.Option(
        "--replication",
        min=1,
        help="Copies of each partition (default: the broker's default.replication.factor).",
        rich_help_panel=_NEW_TOPICS,
    ),
]
CreateOption = Annotated[
    bool,
    typer.Option(
        "--create-topics/--no-create-topics", help="Make them, or stop.", rich_help_panel=_NEW_TOPICS
    ),
]


def _worker(
    topic: TopicsOption = None,
    group: GroupOption = None,
    dedupe_hours: DedupeOption = None,
    start: StartOption = "earliest",
    conflicts: ConflictsOption = "dead_letter",
    dead_letter_share: ShareOption = 0.5,
    accept_loss: LossOption = None,
    metrics_port: MetricsPortOption = None,
    batch_size: BatchSizeOption = None,
    linger: LingerOption = None,
    partitions: PartitionsOption = 6,
    replication: ReplicationOption = None,
    create_topics: CreateOption = True,
    kafka: KafkaOption = None,
    database_url: DatabaseOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Ingest topics into PostgreSQL until SIGTERM: nothing lost, nothing twice, in order.

    This is one process. For more throughput start more of them with the same --group: Kafka shares the
    partitions out, and one that joins or leaves loses and repeats nothing. More processes than partitions
    stay idle.

    While PostgreSQL, Kafka or the registry is away it waits and goes on by itself. Exits 0 after a signal, 6
    where a server refuses (missing migration, privilege).
    """
    settings = load_settings(
        topics=tuple(topic) if topic else None,
        group_id=group,
        dedupe_window_hours=dedupe_hours,
        kafka_bootstrap_servers=kafka,
        worker_database_url=database_url,
        schema_registry_url=registry,
        stack=stack,
    )
    from penstock.worker import WorkerChoices, ingest  # slow to import, and `--help` needs none of it

    choices = WorkerChoices(
        batch_size=batch_size,
        linger=linger,
        start=start,
        conflicts=conflicts,
        partitions=partitions,
        replication=replication,
        create_topics=create_topics,
        accept_loss=tuple(accept_loss or ()),
        dead_letter_share=dead_letter_share,
    )
    asyncio.run(ingest(settings, choices, metrics_port))
