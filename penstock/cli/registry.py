"""`penstock registry`: the embedded schema registry, for those who run no other."""

from typing import Annotated

import typer

from penstock.cli.options import DatabaseOption, StackOption
from penstock.errors import SettingsError
from penstock.settings import DatabaseRole, load_settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("registry")(_registry)


def _registry(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for every interface.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one. The address is printed."),
    ] = 8081,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Serve the schema registry: Confluent's REST over PostgreSQL.

    Probes and metrics are on the same port: /livez, /readyz, /metrics. Point clients at the printed address,
    or at any other compatible registry: nothing else in Penstock depends on this one.
    """
    from pydantic import SecretStr, ValidationError

    from penstock.registry import RegistryOptions, serve

    settings = load_settings(stack=stack, registry_database_url=database_url)
    try:
        options = RegistryOptions(
            database_url=SecretStr(settings.database(DatabaseRole.REGISTRY)),
            user=settings.registry_user,
            password=settings.registry_password,
            request_seconds=settings.timeout_seconds,
        )
    except ValidationError as error:
        reasons = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise SettingsError(f"The registry's settings are wrong: {reasons}.") from None
    serve(options, host=host, port=port, announce=lambda url: typer.echo(f"Schema registry: {url}"))
