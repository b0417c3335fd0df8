"""Options that several commands share, so that one thing has one name and one help text everywhere.

Each is `None` where it was not given; pass it to `load_settings`, which knows what comes next in the order.
"""

from typing import Annotated, Literal

import typer

__all__ = [
    "DatabaseOption",
    "JsonOption",
    "KafkaOption",
    "LogFormatOption",
    "LogLevelOption",
    "MetricsPortOption",
    "RegistryOption",
    "StackOption",
    "TopicsOption",
]

_SERVERS = "Servers (default: environment, penstock.toml, the running stack)"

KafkaOption = Annotated[
    str | None,
    typer.Option("--kafka", metavar="HOST:PORT", help="Kafka's bootstrap servers.", rich_help_panel=_SERVERS),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="PostgreSQL, as postgresql://user@host/db; a password is better put into the environment "
        "(`penstock config show` names the settings).",
        rich_help_panel=_SERVERS,
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option("--registry", metavar="URL", help="The schema registry.", rich_help_panel=_SERVERS),
]
StackOption = Annotated[
    str | None,
    typer.Option("--stack", metavar="NAME", help="Local stack to talk to.", rich_help_panel=_SERVERS),
]
TopicsOption = Annotated[
    list[str] | None,
    typer.Option("--topic", "-t", metavar="TOPIC", help="Topic; repeat for several (default: events)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Serve /metrics, /livez and /readyz there, on PENSTOCK_METRICS_HOST (default: 127.0.0.1); "
        "0: a free port, printed.",
    ),
]
LogFormatOption = Annotated[
    Literal["auto", "json", "console"] | None,
    typer.Option("--log-format", help="Logs go to stderr; auto writes for people on a terminal, else JSON."),
]
LogLevelOption = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option("--log-level", help="Least severe that is shown (default: info)."),
]
