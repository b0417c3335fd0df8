"""`penstock reconcile`: each record's one outcome, held against Kafka, the dead letters and the store."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import DatabaseOption, JsonOption, KafkaOption, StackOption, TopicsOption
from penstock.console import output
from penstock.settings import load_settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Mount `penstock reconcile`."""
    app.command("reconcile")(_reconcile)


def _reconcile(
    topic: TopicsOption = None,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="Group whose books are balanced (default: penstock).")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="Only whole ranges written to since then: 1h, 7d, 2026-01-31.",
        ),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Count every event and every record of ranges with gaps; may take long."),
    ] = False,
    textfile: Annotated[
        Path | None,
        typer.Option(
            "--textfile",
            metavar="FILE",
            help="Write the result as metrics too, for a textfile collector.",
        ),
    ] = None,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Balance the books: each record has one outcome, and Kafka, the dead letters and the store agree.

    Records that the workers have not come to are waiting, which is no fault. Reads only. Exits 0 when
    balanced, 1 when not (also where no worker of a --group ever read a topic), 7 where Kafka lost records
    before they were ingested.
    """
    at = _when(since)
    settings = load_settings(
        topics=tuple(topic) if topic else None,
        group_id=group,
        kafka_bootstrap_servers=kafka,
        reader_database_url=database_url,
        stack=stack,
    )
    from penstock.progress import Watch
    from penstock.reconcile import Scope, reconcile
    from penstock.reconcile.shown import as_object, sentence, table, write_metrics

    scope = Scope(since=at, deep=deep, named=group is not None)
    with Watch("Reconciling") as watch:
        found = asyncio.run(reconcile(settings, scope, progress=watch))
    if as_json:
        typer.echo(json.dumps(as_object(found)))
    else:
        output().print(table(found))
        typer.echo(sentence(found))
    for where, problem, said in found.problems:
        typer.echo(f"{where}: {problem}: {said}", err=True)
    for note in found.notes:
        typer.echo(note, err=True)
    if textfile is not None:
        write_metrics(found, textfile)
    if not found.balanced:
        raise typer.Exit(ExitCode.LOSS if found.lost else ExitCode.FAILED)


def _when(text: str | None) -> datetime | None:
    from penstock.history.when import parse_when

    if text is None:
        return None
    try:
        return parse_when(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
