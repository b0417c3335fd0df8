"""`penstock config`: which settings hold, where each came from, and what is wrong with them."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption

__all__ = ["register"]

_MARKS = {"error": ("✗", "bold red"), "warning": ("!", "yellow")}
_HELP = "The settings: what holds, where it came from, and what is wrong with it. Talks to no server."

_config = typer.Typer(name="config", help=_HELP, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount `penstock config`."""
    app.add_typer(_config)


# The functions import what they need themselves: the store takes longer than all the rest.


@_config.command("show")
def _show(
    as_json: JsonOption = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not a default.")] = False,
) -> None:
    """Every setting, its value and its source; passwords are masked.

    An option wins over the environment, that over penstock.toml, that over the running local stack, that over
    the default. Exits 3 where a setting is wrong.
    """
    from penstock.configuration import effective

    shown = [one for one in effective() if not changed or one.source != "default"]
    if as_json:
        found = {one.name: {"value": one.value, "source": one.source} for one in shown}
        typer.echo(json.dumps({"settings": found}, default=list))
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, overflow="fold")
    for one in shown:
        value = (
            ", ".join(one.value)
            if isinstance(one.value, tuple)
            else ""
            if one.value is None
            else str(one.value)
        )
        style = "dim" if one.source == "default" else ""
        table.add_row(one.name, Text(value), Text(one.source, style=style), Text(one.meaning, style="dim"))
    Console().print(table)


@_config.command("lint")
def _lint(as_json: JsonOption = False) -> None:
    """Look for unknown keys, wrong values and missing secrets, in penstock.toml and the environment.

    Exits 0 where there is no error (warnings are fine), else 3.
    """
    from penstock.configuration import Level, lint

    found = lint()
    errors = sum(one.level is Level.ERROR for one in found)
    if as_json:
        listed = [
            {"level": one.level.value, "key": one.key, "source": one.source, "problem": one.problem}
            for one in found
        ]
        typer.echo(json.dumps({"ok": not errors, "findings": listed}))
    else:
        console = Console()
        for one in found:
            mark, style = _MARKS[one.level.value]
            console.print(
                Text.assemble((f"{mark} ", style), (one.key, "bold"), f" (from {one.source}): {one.problem}")
            )
        console.print(f"{errors} errors, {len(found) - errors} warnings.", highlight=False)
    raise typer.Exit(ExitCode.CONFIG if errors else ExitCode.OK)
