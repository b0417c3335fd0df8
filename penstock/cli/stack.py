"""`penstock up`, `down` and `status`: the local stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption, StackOption
from penstock.settings import load_settings
from penstock.stack import APPS, StackAddresses, StackStatus, Step, ensure, exists
from penstock.stack import status as ask
from penstock.stack import stop as end

__all__ = ["register", "stack_progress"]

WithOption = Annotated[
    str,
    typer.Option(
        "--with", metavar="NAMES", help=f"Start these too, comma separated: {', '.join(APPS)}, or none."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(_up)
    app.command("down")(_down)
    app.command("status")(_status)


def _up(stack: StackOption = None, apps: WithOption = "registry", as_json: JsonOption = False) -> None:
    """Start Kafka, PostgreSQL and the schema registry, and wait until they answer.

    Each server on its own: where the environment gives an address (PENSTOCK_KAFKA_BOOTSTRAP_SERVERS,
    PENSTOCK_DATABASE_URL) that one is used, else Docker where its daemon answers, else the programs on this
    machine. Running it again changes nothing. The database is migrated.
    """
    wanted = [name.strip() for name in apps.split(",") if name.strip() not in ("", "none")]
    with stack_progress() as show:
        # the schema registry is what producers and workers cannot do without
        names = ["registry", *(name for name in wanted if name != "registry")] if wanted else []
        addresses = ensure(_name(stack), apps=names, progress=show)
    if as_json:
        typer.echo(_public(addresses))
        return
    _print_status(ask(addresses.name))
    typer.echo("Every penstock command in this folder now finds these servers. End them: penstock down")


def _down(
    stack: StackOption = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data too: events, topics, logs.")] = False,
) -> None:
    """End what `penstock up` started, and nothing else. Data is kept unless --wipe is given."""
    name = _name(stack)
    if not exists(name):
        typer.echo(f"Stack {name}: there is none here, neither running nor stopped.")
        return
    with stack_progress() as show:
        stopped = end(name, wipe=wipe, progress=show)
    said = f"Stack {name}: {'stopped' if stopped else 'nothing was running'}"
    typer.echo(
        f"{said}, its data is removed."
        if wipe
        else f"{said}. Its data is kept; remove it: penstock down --wipe"
    )


def _status(stack: StackOption = None, as_json: JsonOption = False) -> None:
    """Ask each server of the stack whether it answers. Exit code 4 unless all do."""
    found = ask(_name(stack))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _print_status(found)
    if not found.ready:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _name(option: str | None) -> str:
    return load_settings(servers=False, stack=option).stack


def _public(addresses: StackAddresses) -> str:
    """Addresses without logins: output ends up in logs. The logins are in the stack's file."""
    shown = {
        "name": addresses.name,
        "modes": addresses.modes,
        "kafka": addresses.kafka,
        "postgresql": (addresses.database_url or "").rpartition("@")[2] or None,
        "schema_registry": (addresses.schema_registry_url or "").rpartition("@")[2] or None,
    }
    import json

    return json.dumps(shown, indent=2)


def _print_status(found: StackStatus) -> None:
    if not found.servers:
        start = f"penstock up --stack {found.name}"
        typer.echo(f"Stack {found.name}: nothing was started here. Start it: {start}", err=True)
        return
    table = Table(title=f"Stack {found.name}", title_justify="left")
    for column in ("server", "how", "address", "answers", "process"):
        table.add_column(column, overflow="fold")
    for server in found.servers:
        pid = str(server.pid) if server.pid and server.running else "-"
        answers = "[green]yes[/green]" if server.answers else "[red]no[/red]"
        table.add_row(server.server, server.mode, server.address, answers, pid)
    Console().print(table)
    if any(server.log for server in found.servers):
        typer.echo(f"Logs: {found.folder / 'logs'}")


@contextmanager
def stack_progress() -> Iterator["_Display"]:
    """A line per server on stderr: live on a terminal, plain where output is kept."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.fields[server]:<11}"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bars:
        yield _Display(bars, console)


class _Display:
    """Draws steps; called from several threads, which Rich's Progress allows."""

    def __init__(self, bars: Progress, console: Console) -> None:
        self._bars, self._console = bars, console
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: Step, /) -> None:
        if self._bars.disable:
            self._console.print(f"{step.server}: {step.state} {step.text}", highlight=False, soft_wrap=True)
            return
        if step.server not in self._tasks:
            self._tasks[step.server] = self._bars.add_task("", total=1, server=step.server)
        finished = step.state != "working"
        text = f"{step.state}: {step.text}" if finished else step.text
        self._bars.update(self._tasks[step.server], description=text, completed=int(finished))
