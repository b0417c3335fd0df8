"""`penstock doctor`: what works, what does not, and what to do about it."""

import asyncio
import json
from collections.abc import Sequence

import typer
from rich.table import Table
from rich.text import Text

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import (
    DatabaseOption,
    JsonOption,
    KafkaOption,
    RegistryOption,
    StackOption,
    TopicsOption,
)
from penstock.console import output
from penstock.settings import load_settings

__all__ = ["register"]

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


def register(app: typer.Typer) -> None:
    """Mount `penstock doctor`."""
    app.command("doctor")(_doctor)


def _doctor(
    topic: TopicsOption = None,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    database_url: DatabaseOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Check Kafka, schema registry, PostgreSQL and workers; say what to do. Changes nothing.

    Exits 0 where nothing failed (warnings are fine), else 1.
    """
    settings = load_settings(
        topics=tuple(topic) if topic else None,
        kafka_bootstrap_servers=kafka,
        database_url=database_url,
        schema_registry_url=registry,
        stack=stack,
    )
    from penstock.doctor import Status, examine, summary, worst

    findings = asyncio.run(examine(settings))
    if as_json:
        typer.echo(json.dumps(summary(findings)))
    else:
        _print([(f.component, f.check, f.status.value, f.detail, f.advice) for f in findings])
    raise typer.Exit(ExitCode.FAILED if worst(findings) is Status.FAIL else ExitCode.OK)


def _print(lines: Sequence[tuple[str, str, str, str, str]]) -> None:
    console = output()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    before = ""
    for component, check, status, detail, advice in lines:
        if before and component != before:
            table.add_row()
        mark, style = _MARKS[status]
        said = Text(detail, overflow="fold")
        if advice:
            said.append(f"\n→ {advice}", style=style)
        name = Text(component if component != before else "", style="bold")
        table.add_row(name, Text(mark, style=style), Text(check), said)
        before = component
    console.print(table)
    counts = {status: sum(line[2] == status for line in lines) for status in _MARKS}
    console.print(
        f"\n{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed.", highlight=False
    )
