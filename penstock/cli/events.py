"""`penstock events`: history with filters, and live."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli.options import DatabaseOption, StackOption
from penstock.settings import DatabaseRole, load_settings
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock.history.lines import LineWriter
    from penstock.history.show import Shown
    from penstock_store.contract import QueryOptions

__all__ = ["register"]

_FILTERS = "Filters (all of them must hold)"
_RANGE = "Range and order"
_DEFAULT_LIMIT = 100
_WIDE = 160  # columns of a table that goes into a file or a pipe
_ORDERS = {"time": "time", "id": "event_id", "sequence": "sequence"}

TypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--type", metavar="TYPE", help="Event type; repeat for any of several.", rich_help_panel=_FILTERS
    ),
]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Actor id.", rich_help_panel=_FILTERS)]
CorrelationOption = Annotated[
    str | None, typer.Option("--correlation", help="Correlation id.", rich_help_panel=_FILTERS)
]
EntityOption = Annotated[str | None, typer.Option("--entity", help="Entity id.", rich_help_panel=_FILTERS)]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Tenant id.", rich_help_panel=_FILTERS)]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Tag; repeat for all of several.", rich_help_panel=_FILTERS),
]
PayloadOption = Annotated[
    str | None,
    typer.Option("--payload", metavar="JSON", help="Object the payload contains.", rich_help_panel=_FILTERS),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="WHEN", help="Occurred at or after: 1h, 7d, 2026-01-31.", rich_help_panel=_RANGE
    ),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="WHEN", help="Occurred before.", rich_help_panel=_RANGE)
]
AfterOption = Annotated[
    int | None,
    typer.Option("--after-sequence", metavar="N", help="Only sequences above N.", rich_help_panel=_RANGE),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=0,
        help="How many at most; 0: all (default: 100; with --follow all).",
        rich_help_panel=_RANGE,
    ),
]
OrderOption = Annotated[
    Literal["time", "id", "sequence"],
    typer.Option("--order", help="By occurrence, event id, or as stored.", rich_help_panel=_RANGE),
]
DescOption = Annotated[bool, typer.Option("--desc", help="The last ones first.", rich_help_panel=_RANGE)]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", "-f", help="Go on with events as they are stored, in order, until Ctrl-C."),
]
OutputOption = Annotated[
    Literal["table", "json", "jsonl"],
    typer.Option("--output", "-o", help="json: one array; jsonl: an object a line."),
]
LinesOption = Annotated[bool, typer.Option("--json", help="The same as -o jsonl.")]


def register(app: typer.Typer) -> None:
    """Mount `penstock events`."""
    app.command("events")(_events)


def _events(
    type_: TypeOption = None,
    actor: ActorOption = None,
    correlation: CorrelationOption = None,
    entity: EntityOption = None,
    tenant: TenantOption = None,
    tag: TagOption = None,
    payload: PayloadOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    after_sequence: AfterOption = None,
    limit: LimitOption = None,
    order: OrderOption = "sequence",
    desc: DescOption = False,
    follow: FollowOption = False,
    output: OutputOption = "table",
    lines: LinesOption = False,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Print stored events. Events go to stdout, everything else to stderr.

    Times are UTC. With --follow and no start (--since, --after-sequence) it begins with the last ten.

    Examples: penstock events --entity 42 --since 1h --follow;
    penstock events --type order.paid --desc -n 20; penstock events -n 0 -o jsonl > history.jsonl
    """
    if follow and (desc or order != "sequence" or until is not None):
        raise typer.BadParameter(
            "goes on in the order of the store: leave out --desc, --order and --until", param_hint="--follow"
        )
    settings = load_settings(reader_database_url=database_url, stack=stack)
    from penstock_store.contract import OrderBy, QueryOptions
    from penstock_store.postgresql.reader_settings import ReaderSettings

    default = None if follow else _DEFAULT_LIMIT
    options = QueryOptions(
        event_types=type_ or (),
        actor_id=actor,
        correlation_id=correlation,
        entity_id=entity,
        tenant_id=tenant,
        tags=tag or (),
        payload=_object(payload),
        since=_when("--since", since),
        until=_when("--until", until),
        after_sequence=after_sequence,
        limit=default if limit is None else limit or None,
        order_by=OrderBy(_ORDERS[order]),
        descending=desc,
    )
    reader = ReaderSettings(
        dsn=settings.database(DatabaseRole.READER),
        connect_timeout=settings.timeout_seconds,
        command_timeout=max(settings.timeout_seconds, 30.0),
        application_name="penstock-events",
    )
    _print(reader, options, _lines("jsonl" if lines else output), follow=follow)


def _print(reader: Any, options: "QueryOptions", lines: "LineWriter", *, follow: bool) -> None:
    from penstock.history import show

    try:
        if follow:
            started = options.since is not None or options.after_sequence is not None
            asyncio.run(show.follow(reader, options, lines, sys.stdout, _note, from_start=started))
        else:
            _tell(asyncio.run(show.show(reader, options, lines, sys.stdout)), options)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter's own flush would fail


def _tell(shown: "Shown", options: "QueryOptions") -> None:
    if not shown.count:
        newest = shown.newest
        where = (
            "The store is empty."
            if newest is None
            else f"The newest in the store occurred at {newest.occurred_at:%Y-%m-%d %H:%M:%S} UTC."
        )
        _note(f"No events match. {where}")
    elif shown.more and shown.last is not None:
        onward = f"go on with --after-sequence {shown.last.sequence}, or " if _resumable(options) else ""
        _note(f"{counted(shown.count, 'event')}, and more follow: {onward}give --limit N (0: all).")


def _resumable(options: "QueryOptions") -> bool:
    return options.order_by.value == "sequence" and not options.descending


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _when(option: str, text: str | None) -> datetime | None:
    from penstock.history.when import parse_when

    if text is None:
        return None
    try:
        return parse_when(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter(
            f"""{text!r} is not a JSON object, such as '{{"state": "paid"}}'""", param_hint="--payload"
        )
    return value


def _lines(output: str) -> "LineWriter":
    from penstock.history.lines import JsonArray, JsonLines, TableLines

    if output == "jsonl":
        return JsonLines()
    if output == "json":
        return JsonArray()
    width = (
        shutil.get_terminal_size((_WIDE, 24)).columns
        if sys.stdout.isatty() or "COLUMNS" in os.environ
        else _WIDE
    )
    return TableLines(width, _painter())


def _painter() -> Callable[[str, str], str]:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return lambda text, _style: text
    codes = {"header": "1", "sequence": "2", "time (UTC)": "2", "type": "36", "payload": "2"}
    return lambda text, style: f"\x1b[{codes[style]}m{text}\x1b[0m" if style in codes else text
