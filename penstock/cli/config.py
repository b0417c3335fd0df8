"""`penstock config`: which settings hold, where each came from, and what is wrong with them."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption
from penstock.console import output
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock.configuration import Shown

__all__ = ["register"]

_PADDING = 2
_MEANING = 20  # cells that make a meaning worth showing
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
    _print(shown)


def _print(shown: "list[Shown]") -> None:
    console = output()
    names = max(len(one.name) for one in shown) if shown else 0
    sources = max(len(one.source) for one in shown) if shown else 0
    values = [_text(one.value) for one in shown]
    left = console.width - names - sources - 2 * _PADDING
    # A name is never cut, and a value only where it must be: rather the meaning goes.
    width = min(left, max(map(len, values), default=0))
    room = left - width - 2 * _PADDING
    table = Table(box=None, header_style="bold", padding=(0, _PADDING, 0, 0))
    table.add_column("setting", no_wrap=True, min_width=names)
    table.add_column("value", overflow="fold", min_width=width)
    table.add_column("from", no_wrap=True, min_width=sources)
    if room >= _MEANING:
        table.add_column("meaning", min_width=_MEANING)
    for one, value in zip(shown, values, strict=True):
        style = "dim" if one.source == "default" else ""
        cells = (one.name, Text(value), Text(one.source, style=style), Text(one.meaning, style="dim"))
        table.add_row(*cells[: len(table.columns)])
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)


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
        console = output()
        for one in found:
            mark, style = _MARKS[one.level.value]
            console.print(
                Text.assemble((f"{mark} ", style), (one.key, "bold"), f" (from {one.source}): {one.problem}")
            )
        console.print(f"{counted(errors, 'error')}, {counted(len(found) - errors, 'warning')}.")
    raise typer.Exit(ExitCode.CONFIG if errors else ExitCode.OK)
