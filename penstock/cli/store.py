"""`penstock store`: events from one store to another."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption, StackOption
from penstock.settings import load_settings

if TYPE_CHECKING:
    from penstock.moving.run import Outcome

__all__ = ["register"]

_store = typer.Typer(name="store", help="Move events from one event store to another.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount `penstock store`."""
    app.add_typer(_store)


@_store.callback()
def _group() -> None:
    """Keeps `copy` a command of its own while it is the only one."""


@_store.command("copy")
def _copy(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STORE",
            help="file:DIR, postgresql://…, NAME:key=value, or a NAME alone: as configured.",
        ),
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="STORE", help="The same; its login needs penstock_writer.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be copied; change nothing.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, max=10_000, help="Events in one transaction.")
    ] = 5_000,
    verify: Annotated[
        bool, typer.Option("--verify", help="Then compare both stores by count and checksum.")
    ] = False,
    verify_only: Annotated[bool, typer.Option("--verify-only", help="Compare, copy nothing.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Read all of the source again, and bring what is missing.")
    ] = False,
    on_conflict: Annotated[
        Literal["stop", "skip"],
        typer.Option("--on-conflict", help="A key or id that the target holds for something else."),
    ] = "stop",
    skip_corrupted: Annotated[
        bool, typer.Option("--skip-corrupted", help="Leave out and report lines that cannot be trusted.")
    ] = False,
    as_json: JsonOption = False,
    stack: StackOption = None,
) -> None:
    """Copy all events, in order, until the target holds what the source holds.

    Interrupted at any moment, even killed, the same command goes on where the target stands; events may be
    appended to the source meanwhile. Exits 0 where all is done, 1 where --verify finds events missing or
    different, 130 where a signal stopped it.

    Examples: penstock store copy --from file:events --to postgresql --dry-run;
    penstock store copy --from file:events --to postgresql://me@db/penstock --verify
    """
    if verify_only and (dry_run or verify or from_start):
        raise typer.BadParameter("compares and nothing else", param_hint="--verify-only")
    settings = load_settings(stack=stack)
    from penstock.moving.places import place_of
    from penstock.moving.run import CopyChoices, run_copy
    from penstock.moving.words import CopyDisplay

    old = place_of(source, settings, reads=True)
    new = place_of(target, settings, reads=verify_only or dry_run, may_be_new=dry_run)
    if old.same_as(new):
        raise typer.BadParameter(f"is the store to copy from: {new.name}", param_hint="--to")
    choices = CopyChoices(
        copy=not verify_only,
        dry_run=dry_run,
        verify=verify or verify_only,
        batch_size=batch_size,
        from_start=from_start,
        skip_corrupted=skip_corrupted,
        skip_conflicts=on_conflict == "skip",
    )
    console = Console(stderr=True)
    with CopyDisplay(console) as display:
        outcome = run_copy(old, new, choices, on_progress=display.copied, on_compared=display.compared)
    if as_json:
        said = {"from": old.name, "to": new.name, "dry_run": dry_run, **outcome.as_json()}
        typer.echo(json.dumps(said, ensure_ascii=False))
    else:
        _say(outcome)
    if outcome.interrupted:
        at = outcome.progress.position if outcome.progress is not None else 0
        console.print(
            f"Stopped. The target holds everything up to sequence {at:,} that this run looked at:"
            " the same command goes on from there."
            if at
            else "Stopped before the first batch: the same command begins again.",
            markup=False,
            highlight=False,
        )
    raise typer.Exit(_code(outcome))


def _say(outcome: "Outcome") -> None:
    from penstock.moving.words import comparison_lines, copied_lines, plan_lines

    if outcome.plan is not None:
        for line in plan_lines(outcome.plan):
            typer.echo(line)
    if outcome.copied is not None:
        for line in copied_lines(outcome.copied):
            typer.echo(line)
    if outcome.comparison is not None:
        for line in comparison_lines(outcome.comparison):
            typer.echo(line)


def _code(outcome: "Outcome") -> ExitCode:
    if outcome.interrupted:
        return ExitCode.INTERRUPTED
    if outcome.comparison is not None and not outcome.comparison.complete:
        return ExitCode.FAILED
    return ExitCode.OK
