"""`python -m benchmarks run` measures; `python -m benchmarks compare A B` compares two results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.pipeline import Round, measure_round
from benchmarks.results import LATEST, compare, save, show, summarise
from benchmarks.servers import servers

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def run(
    events: Annotated[int, typer.Option(min=1_000, help="Events in the topic.")] = 300_000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of each kind.")] = 3,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = LATEST,
) -> None:
    """Worker against the server-side COPY of the same rows, with full and with lean indexes."""
    log = Console(stderr=True)
    measured: dict[str, list[Round]] = {"full": [], "lean": []}
    with servers(events) as found:
        for number in range(1, rounds + 1):
            for indexes, taken in measured.items():
                taken.append(measure_round(found, indexes))
                last = taken[-1]
                log.print(
                    f"round {number}/{rounds} {indexes}: worker {last.worker_rate:,.0f}/s,"
                    f" limit {last.limit_rate:,.0f}/s, ratio {last.ratio:.2f}"
                )
    result = summarise(measured, events)
    save(result, output)
    show(result)


app.command(name="compare")(compare)

if __name__ == "__main__":
    app()
