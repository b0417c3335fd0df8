"""`python -m benchmarks run` measures; `python -m benchmarks compare A B` compares two results;
`python -m benchmarks model` says what a rate needs.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.model import Server, print_model
from benchmarks.results import LATEST, compare, save, show
from benchmarks.servers import servers
from benchmarks.suite import GROUPS, LONG, TARGETS, Plan, run_suite

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
_ONLY = "Measure these groups alone; repeat for several. " + "; ".join(f"{n}: {w}" for n, w in GROUPS.items())


@app.command()
def run(
    events: Annotated[
        int, typer.Option(min=1_000, help="Events in the topics; three times as many for lean stores.")
    ] = 150_000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of each kind.")] = 3,
    full: Annotated[bool, typer.Option("--full", help="The whole matrix: one to two hours.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="GROUP", help=_ONLY)] = None,
    output: Annotated[
        Path,
        typer.Option(
            help="Where the JSON goes; the plot goes beside it.",
            show_default="benchmarks/results/latest.json",
        ),
    ] = LATEST,
) -> None:
    """Measure on real servers, which are started where none are given; each figure is a ratio of one run.

    Nothing else should run on the machine. Progress goes to standard error, the table to standard output.
    """
    if unknown := [name for name in only or () if name not in GROUPS]:
        raise typer.BadParameter(
            f"there is no group {unknown[0]}; there are {', '.join(GROUPS)}", param_hint="--only"
        )
    groups = tuple(only or (name for name in GROUPS if full or name not in LONG))
    console, started = Console(stderr=True, highlight=False), time.monotonic()

    def log(text: str) -> None:
        console.print(f"{time.monotonic() - started:5.0f} s  {text}", soft_wrap=True)

    result = run_suite(servers(), Plan(events=events, rounds=rounds, groups=groups), log)
    save(result, output, TARGETS)
    show(result, TARGETS)


app.command(name="compare")(compare)


@app.command()
def model(
    result: Annotated[
        Path, typer.Argument(exists=True, show_default="benchmarks/results/latest.json")
    ] = LATEST,
    cores: Annotated[int, typer.Option(min=1, help="Of one PostgreSQL server.")] = 16,
    wal: Annotated[int, typer.Option(min=1, help="MB/s of WAL that one server takes for hours.")] = 200,
) -> None:
    """Say what 10,000, 100,000 and 1,000,000 events/s need, from the constants of a result."""
    try:
        print_model(json.loads(result.read_text()), Server(cores=cores, wal=wal * 1e6))
    except (KeyError, json.JSONDecodeError) as error:
        raise typer.BadParameter(
            f"{result} lacks a figure that the model needs ({error}). Measure again: make bench",
            param_hint="RESULT",
        ) from error


if __name__ == "__main__":
    app()
