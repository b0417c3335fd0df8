"""`penstock migrate`: the schema of PostgreSQL, up and down."""

from typing import Annotated

import typer

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import DatabaseOption, StackOption
from penstock.settings import Settings, load_settings

__all__ = ["register"]

_HELP = "Move PostgreSQL's schema; without a subcommand: up to the newest revision. Uses the owner's login."

_migrate = typer.Typer(name="migrate", help=_HELP, invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Mount `penstock migrate`."""
    app.add_typer(_migrate)


# The functions import the store themselves: SQLAlchemy and Alembic take longer than all the rest.


def _settings(context: typer.Context) -> Settings:
    database_url, stack = context.obj
    return load_settings(database_url=database_url, stack=stack)


def _owner(context: typer.Context) -> str:
    return _settings(context).database()


@_migrate.callback()
def _default(
    context: typer.Context,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Print the statements of an upgrade from nothing; connect to nothing."),
    ] = False,
) -> None:
    context.obj = (database_url, stack)
    from penstock_store import migrations

    if context.invoked_subcommand is None:
        if sql:
            typer.echo(migrations.offline_sql(), nl=False)
        else:
            _up(context)
    elif sql:
        raise typer.BadParameter("--sql stands alone: `penstock migrate --sql`")


@_migrate.command("up")
def _up(
    context: typer.Context,
    revision: Annotated[str, typer.Option(help="Revision to reach.")] = "head",
) -> None:
    """Upgrade to the newest revision, and give partitions to come the indexes that the settings name."""
    from penstock_store import migrations
    from penstock_store.dsn import redact_dsn

    settings = _settings(context)
    dsn = settings.database()
    before = migrations.current(dsn)
    migrations.upgrade(dsn, revision)
    after = migrations.current(dsn)
    place = redact_dsn(dsn)
    typer.echo(
        f"{place} is at {after} already." if before == after else f"{place}: {before or 'empty'} → {after}."
    )
    if settings.indexes is not None and settings.indexes != (had := migrations.indexes(dsn)):
        migrations.set_indexes(dsn, settings.indexes)
        typer.echo(f"Partitions made from now on: {','.join(had)} → {','.join(settings.indexes)} indexes.")


@_migrate.command("down")
def _down(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(help="Revision to go back to; `base` removes everything.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before events are removed.")] = False,
) -> None:
    """Downgrade. `base` removes the schema with all its events."""
    from penstock_store import migrations
    from penstock_store.dsn import redact_dsn

    dsn = _owner(context)
    if revision == "base" and not yes:
        typer.confirm(f"This removes every event in {redact_dsn(dsn)}. Go on?", abort=True, err=True)
    migrations.downgrade(dsn, revision)
    typer.echo(f"{redact_dsn(dsn)} is at {migrations.current(dsn) or 'no revision'}.")


@_migrate.command("current")
def _current(context: typer.Context) -> None:
    """Print the revision that the database is at, and the newest one."""
    from penstock_store import migrations

    typer.echo(f"{migrations.current(_owner(context)) or 'none'} (newest: {migrations.head()})")


@_migrate.command("indexes")
def _indexes(
    context: typer.Context,
    wanted: Annotated[
        str | None,
        typer.Argument(metavar="[full|lean|LIST]", help="A list is like `time,entity`. Without it: show."),
    ] = None,
) -> None:
    """Show or choose the secondary indexes of partitions made from now on; existing ones keep theirs. The
    setting `indexes` chooses them for good: each `penstock migrate` sees to it.
    """
    from penstock_store import migrations

    settings = _settings(context)
    dsn = settings.database()
    if wanted is not None:
        migrations.set_indexes(dsn, wanted.split(","))
    chosen = migrations.indexes(dsn)
    typer.echo(",".join(chosen))
    if settings.indexes not in (None, chosen):
        said = ",".join(settings.indexes or ())
        typer.echo(f"The setting indexes says {said}: `penstock migrate` brings that back.", err=True)


@_migrate.command("check")
def _check(context: typer.Context) -> None:
    """Exit 0 where the database is at the newest revision and equals the declared tables, else 6."""
    from penstock_store import migrations

    migrations.check(_owner(context))
    typer.echo(f"At {migrations.head()}, and equal to the declared tables.")
    raise typer.Exit(ExitCode.OK)
