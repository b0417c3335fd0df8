"""`penstock projection`: run, look at and rebuild projections of one's own code."""

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from penstock.cli.options import DatabaseOption, JsonOption, MetricsPortOption, StackOption
from penstock.settings import DatabaseRole, load_settings
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock_store.projections import Projection, ProjectionStatus
    from penstock_store.store_contract import EventStore

__all__ = ["register"]

_projection = typer.Typer(
    name="projection",
    help="Fold events into tables or a value of your own, with exactly-once effect.",
    no_args_is_help=True,
)

NamesArgument = Annotated[
    list[str], typer.Argument(metavar="MODULE:NAME", help="Such as shop.projections:orders.")
]
SkipOption = Annotated[
    list[int] | None, typer.Option("--skip", metavar="SEQUENCE", help="Leave this event out; repeat.")
]
LossOption = Annotated[
    bool, typer.Option("--accept-loss", help="Go on without events that retention dropped unread.")
]


def register(app: typer.Typer) -> None:
    """Mount `penstock projection`."""
    app.add_typer(_projection)


def _store(dsn: str) -> "EventStore":
    from penstock_store.backends import create_event_store

    return create_event_store("postgresql", dsn=dsn, application_name="penstock-projection")


@_projection.command("run")
def _run(
    names: NamesArgument,
    once: Annotated[bool, typer.Option("--once", help="End when what is there now is done.")] = False,
    skip: SkipOption = None,
    accept_loss: LossOption = False,
    metrics_port: MetricsPortOption = None,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Catch up, then go on live until SIGTERM. Where another process runs a projection, stand by.

    A handler that fails stops its projection, at that event; the others go on. Exits 1 when none runs.
    """
    from penstock.projecting import find_projection, project

    found = [find_projection(name) for name in names]
    settings = load_settings(database_url=database_url, stack=stack)
    asyncio.run(
        project(
            _store(settings.database()),
            found,
            once=once,
            skip=frozenset(skip or ()),
            accept_loss=accept_loss,
            metrics_host=settings.metrics_host,
            metrics_port=metrics_port,
        )
    )


@_projection.command("status")
def _status(
    as_json: JsonOption = False, database_url: DatabaseOption = None, stack: StackOption = None
) -> None:
    """Show where each projection stands, its lag, and what stopped it."""
    settings = load_settings(reader_database_url=database_url, stack=stack)
    found = asyncio.run(_statuses(settings.database(DatabaseRole.READER)))
    if as_json:
        typer.echo(json.dumps({"projections": [asdict(one) for one in found]}, default=str))
        return
    if not found:
        typer.echo("No projection has run on this store. Start one: penstock projection run MODULE:NAME")
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("projection", "version", "position", "behind", "seconds", "state"):
        right = column in ("version", "position", "behind", "seconds")
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for one in found:
        table.add_row(
            one.name,
            str(one.version),
            f"{one.sequence:,}",
            f"{one.lag_events:,}",
            f"{one.lag_seconds:,.0f}",
            _state(one),
        )
    Console().print(table)


def _state(one: "ProjectionStatus") -> str:
    if one.owner:
        return f"run by {one.owner}"
    return f"stopped: {one.fault}" if one.fault else "not running"


async def _statuses(dsn: str) -> "list[ProjectionStatus]":
    from penstock_store.projections import statuses

    async with _store(dsn) as store:
        return await statuses(store)


@_projection.command("rebuild")
def _rebuild(
    name: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="Such as shop.projections:orders.")],
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="KEY", help="Begin with this snapshot.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    skip: SkipOption = None,
    accept_loss: LossOption = False,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Make a projection again beside the one that is read, and put it in its place in one step.

    Readers see the old result until the new one is complete. After an interruption the same command goes on.
    """
    from penstock.projecting import find_projection

    found = find_projection(name)
    settings = load_settings(database_url=database_url, stack=stack)
    chosen: dict[str, Any] = {"snapshot": snapshot, "skip": frozenset(skip or ()), "accept_loss": accept_loss}
    said = asyncio.run(_rebuilt(settings.database(), found, chosen, dry_run=dry_run))
    if as_json:
        typer.echo(json.dumps(said))
    elif dry_run:
        typer.echo(
            f"Would fold {found.name} in version {found.version} up to sequence {said['sequence']:,},"
            f" where it stands in version {said['present_version']}. Nothing was changed."
        )
    else:
        typer.echo(
            f"Rebuilt {found.name} in version {found.version} from {counted(int(said['events']), 'event')};"
            f" it stands at sequence {said['sequence']:,}, as before."
        )


async def _rebuilt(
    dsn: str, found: "Projection", chosen: dict[str, Any], *, dry_run: bool
) -> dict[str, int | str]:
    from penstock_store.projections import rebuild

    async with _store(dsn) as store:
        if not dry_run:
            return asdict(await rebuild(store, found, **chosen))
        kept = await store.get_checkpoint(found.checkpoint)
        return {
            "name": found.name,
            "version": found.version,
            "present_version": kept.state_version if kept else found.version,
            "sequence": kept.sequence if kept else 0,
        }
