"""`penstock demo`: the whole way of an event on this machine, in one command."""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption, StackOption
from penstock.settings import load_settings

if TYPE_CHECKING:
    from penstock.demo.rendering import Surroundings

__all__ = ["register"]

_STAGES = {"emit": "Emitting to Kafka", "ingest": "Accounted for in PostgreSQL", "read": "Reading back"}


def register(app: typer.Typer) -> None:
    """Mount `penstock demo`."""
    app.command("demo")(_demo)


def _demo(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="CloudEvents 1.0 JSON lines, plain or .gz; without it a small sample of our own.",
        ),
    ] = None,
    as_json: JsonOption = False,
    stack: StackOption = None,
) -> None:
    """See it work: start real servers, emit events, ingest them, read them back, explain.

    Starts Kafka, PostgreSQL, schema registry and workers where they do not run, and leaves them running.
    Exits 1 where what was read back is not what was emitted, 5 where FILE holds no event at all.
    """
    from penstock.demo.pipeline import run_demo
    from penstock.demo.rendering import show
    from penstock.demo.source import open_source

    with open_source(file) as source:
        settings = load_settings(servers=False, stack=stack)
        name = settings.stack
        _start(name)
        with _bars() as bars:
            result = asyncio.run(run_demo(load_settings(stack=name), source, bars))
    if as_json:
        typer.echo(json.dumps(result.as_json()))
        for line in (*result.problems, *result.notes):
            typer.echo(line, err=True)
    else:
        show(result, _around(name, named=stack is not None, sample=file is None), Console())
    raise typer.Exit(ExitCode.FAILED if result.problems else ExitCode.OK)


def _start(name: str) -> None:
    from penstock.cli.stack import stack_progress
    from penstock.stack import ensure

    with stack_progress() as progress:
        ensure(name, apps=("registry", "worker", "retention"), progress=progress)


def _around(name: str, *, named: bool, sample: bool) -> "Surroundings":
    from penstock.demo.rendering import Surroundings
    from penstock.stack import status

    worker = next((server for server in status(name).servers if server.server == "worker"), None)
    here = Path(sys.executable).with_name("penstock")
    command = "penstock" if shutil.which("penstock") else _short(here)
    if named:
        command = f"PENSTOCK_STACK={name} {command}"
    return Surroundings(
        command=command, metrics=f"{worker.address}/metrics" if worker else None, sample=sample
    )


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


class _Bars:
    """A `DemoProgress` on stderr; silent where that is no terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        # In the order of the story: the worker may be quicker to report than the producer.
        self._tasks = {stage: bars.add_task(_STAGES[stage], total=None) for stage in ("emit", "ingest")}

    def __call__(self, stage: str, done: int, total: int | None, /) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(_STAGES[stage], total=None)
        self._bars.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def _bars() -> Iterator[_Bars]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description:<27}"), BarColumn())
    with Progress(
        *columns, MofNCompleteColumn(), TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as bars:
        yield _Bars(bars)
