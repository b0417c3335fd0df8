"""The application: global options, the commands of every module, and what ends the process."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.exit_codes import ExitCode
from penstock.cli.failures import report
from penstock.cli.options import LogFormatOption, LogLevelOption
from penstock.errors import SettingsError
from penstock.logging import configure_logging
from penstock.settings import Settings, load_settings

__all__ = ["MODULES", "build", "run"]

# In the order in which `penstock --help` shows them: a newcomer's first command first.
MODULES = (
    "demo",
    "stack",
    "doctor",
    "config",
    "emit",
    "events",
    "worker",
    "dlq",
    "replay",
    "reconcile",
    "projection",
    "retention",
    "store",
    "migrate",
    "registry",
)


def _epilog() -> str:
    codes = "\n".join(f"{code.value:>3}  {code.meaning}" for code in ExitCode)
    return f"[bold]Exit codes[/bold]\n{codes}"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {version('penstock')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    try:
        settings = load_settings(servers=False, log_format=log_format, log_level=log_level)
    except SettingsError:
        if context.invoked_subcommand != "config":  # which says more of what is wrong
            raise
        settings = Settings()
    configure_logging(settings.log_format, settings.log_level)


def build() -> typer.Typer:
    """The complete Typer application."""
    app = typer.Typer(
        name="penstock",
        help="Events from Kafka to PostgreSQL: nothing lost, nothing twice, in order. Start: penstock demo",
        epilog=_epilog(),
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,  # `report` decides what a person sees
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in MODULES:
        importlib.import_module(f"penstock.cli.{name}").register(app)
    _unwrap(app)
    return app


def _unwrap(app: typer.Typer) -> None:
    """Let the terminal wrap the commands' descriptions: Typer keeps the line breaks of the source."""
    for command in app.registered_commands:
        if command.help is None and command.callback is not None and command.callback.__doc__:
            paragraphs = cleandoc(command.callback.__doc__).split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _unwrap(group.typer_instance)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command (`sys.argv` by default) and return its exit code."""
    _open_closed()
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.PIPE
    except OSError as error:
        if code in (ExitCode.OK, ExitCode.PIPE):  # else it was said already
            code = report(error)
        _silence()
    if code == ExitCode.PIPE:
        _silence()
    return code


def _open_closed() -> None:
    """Whoever closed an output wants nothing of it; and no connection may get its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115


def _silence() -> None:
    """What is left of the output goes nowhere, lest the interpreter's end complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    try:
        build()(args=arguments, prog_name="penstock")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # which Typer turns into a plain 1
            return ExitCode.PIPE
        return end.code if isinstance(end.code, int) else ExitCode.OK if end.code is None else ExitCode.FAILED
    except (Exception, KeyboardInterrupt) as error:
        return report(error)
    return ExitCode.OK
