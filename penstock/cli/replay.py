"""`penstock replay`: topics read again, where the books lack something."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import (
    DatabaseOption,
    JsonOption,
    KafkaOption,
    RegistryOption,
    StackOption,
    TopicsOption,
)
from penstock.settings import DatabaseRole, Settings, load_settings

if TYPE_CHECKING:
    from penstock.replay.plan import Asked, Plan
    from penstock.replay.run import RunSummary

__all__ = ["register"]

_replay = typer.Typer(
    name="replay",
    help="Read topics again where PostgreSQL lacks something; nothing is stored twice.",
    no_args_is_help=True,
)

OffsetOption = Annotated[
    str,
    typer.Option(
        "--offset",
        "-o",
        metavar="SPAN",
        help="What to read, in rpk's words: start, 100:200, -1000, :end, @-48h:-24h, @2026-02-14:1h, "
        "@2026-02-14T08:00:00Z:end, @1622505600.",
    ),
]
PartitionOption = Annotated[
    list[int] | None,
    typer.Option("--partition", "-p", min=0, help="Partition; repeat for several (default: all)."),
]
GroupOption = Annotated[
    str | None, typer.Option("--group", "-g", help="Group whose books are filled (default: penstock).")
]
ExpiredOption = Annotated[
    bool,
    typer.Option(
        "--expired",
        help="Also bring back what retention has dropped, in whole ranges; what is left of one when the run "
        "is interrupted counts as missing until it is run again.",
    ),
]


def register(app: typer.Typer) -> None:
    """Mount `penstock replay`."""
    app.add_typer(_replay)


@_replay.command("plan")
def _plan(
    topic: TopicsOption = None,
    span: OffsetOption = "start",
    partition: PartitionOption = None,
    group: GroupOption = None,
    expired: ExpiredOption = False,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Show what a replay would read, and what it would leave: offsets that are in the books, that the worker
    has not reached, that retention dropped, that Kafka has no longer. Changes nothing.
    """
    settings = load_settings(
        topics=tuple(topic) if topic else None,
        group_id=group,
        kafka_bootstrap_servers=kafka,
        reader_database_url=database_url,
        stack=stack,
    )
    from penstock.replay.shown import show_plan

    dsn = settings.database(DatabaseRole.READER)
    show_plan(_planned(settings, dsn, _asked(settings, span, partition, expired)), as_json=as_json)


@_replay.command("run")
def _run(
    topic: TopicsOption = None,
    span: OffsetOption = "start",
    partition: PartitionOption = None,
    group: GroupOption = None,
    expired: ExpiredOption = False,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, max=1e9, metavar="N", help="Records a second at most.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Begin although another run is at it, which ends.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="URL", help="Rebuild what the store keeps in this empty database."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="With --into: compare every event's content afterwards.")
    ] = False,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    database_url: DatabaseOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Read what the plan says and store it, beside a worker that goes on. Its events come after all that are
    stored, in their own order.

    May be stopped or killed at any time: what is written stays, and running it again goes on from there.
    Exits 1 where it was stopped before its end, or a comparison found a difference.
    """
    settings = load_settings(
        topics=tuple(topic) if topic else None,
        group_id=group,
        kafka_bootstrap_servers=kafka,
        worker_database_url=database_url,
        schema_registry_url=registry,
        stack=stack,
    )
    if compare and into is None:
        raise typer.BadParameter("--compare goes with --into: the database to rebuild in")
    dsn = settings.database(DatabaseRole.WORKER)
    asked = _asked(settings, span, partition, expired)
    if into is None or dry_run:
        plan, target = _planned(settings, dsn, asked), dsn
    else:
        from penstock.replay.scratch import prepare

        target = load_settings(servers=False, database_url=into).database()
        plan = asyncio.run(prepare(settings, dsn, target, asked))
    if dry_run or not (plan.to_read or compare):
        _nothing_done(plan, dry_run=dry_run, as_json=as_json)
        return
    summary = _carry_out(settings, plan, target, rate, take_over, quiet=into is not None)
    _conclude(summary, dsn, target if compare else None, as_json=as_json)


def _nothing_done(plan: "Plan", *, dry_run: bool, as_json: bool) -> None:
    """The plan; but who asked for a run as JSON gets a run that had nothing to do."""
    from penstock.replay.run import RunSummary
    from penstock.replay.shown import show_plan
    from penstock_consumer.replay import ReplayEnd

    if as_json and not dry_run:
        typer.echo(json.dumps(RunSummary(end=ReplayEnd.FINISHED).as_json()))
    else:
        show_plan(plan, as_json=as_json)


def _carry_out(
    settings: Settings, plan: "Plan", dsn: str, rate: float | None, take_over: bool, *, quiet: bool
) -> "RunSummary":
    from penstock.replay.report import ReplayReport
    from penstock.replay.run import replay
    from penstock_consumer.replay import ReplayOptions

    report = ReplayReport(Console(stderr=True), plan.to_read)
    options = ReplayOptions(rate=rate, take_over=take_over)
    return asyncio.run(replay(settings, plan, options, report, dsn=dsn, quiet=quiet))


def _conclude(summary: "RunSummary", store: str, rebuilt: str | None, *, as_json: bool) -> None:
    from penstock.replay.compare import compare
    from penstock.replay.shown import comparison, sentence

    finished = summary.end == "finished"
    found = asyncio.run(compare(store, rebuilt)) if finished and rebuilt is not None else None
    if as_json:
        more = {} if found is None else {"comparison": found.as_json()}
        typer.echo(json.dumps({**summary.as_json(), **more}))
    else:
        typer.echo(sentence(summary))
        if found is not None:
            typer.echo(comparison(found))
    same = found is None or not found.differences.total()
    raise typer.Exit(ExitCode.OK if finished and same else ExitCode.FAILED)


@_replay.command("status")
def _status(
    run: Annotated[
        int | None,
        typer.Argument(min=1, max=(1 << 63) - 1, metavar="[RUN]", help="One run, by its number."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Newest runs to show.")] = 10,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Show runs with their state, progress and rate. A run is dead where it gave no sign of life for 15 s."""
    from penstock.replay.shown import show_runs
    from penstock.replay.status import read_status

    settings = load_settings(reader_database_url=database_url, stack=stack)
    dsn = settings.database(DatabaseRole.READER)
    runs = asyncio.run(read_status(dsn, run=run, limit=limit, seconds=settings.timeout_seconds))
    if as_json:
        typer.echo(json.dumps({"runs": [item.as_json() for item in runs]}))
    elif runs:
        show_runs(runs)
    if not runs:
        typer.echo("No replay has run." if run is None else f"There is no replay {run}.", err=True)
    raise typer.Exit(ExitCode.FAILED if run is not None and not runs else ExitCode.OK)


def _asked(settings: Settings, span: str, partitions: list[int] | None, expired: bool) -> "Asked":
    from penstock.replay.plan import Asked

    return Asked(
        topics=settings.topics,
        group_id=settings.group_id,
        span=span,
        partitions=partitions or (),
        expired=expired,
    )


def _planned(settings: Settings, dsn: str, asked: "Asked") -> "Plan":
    from penstock.replay.plan import make_plan

    return asyncio.run(make_plan(settings, dsn, asked))
