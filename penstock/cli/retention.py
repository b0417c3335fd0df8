"""`penstock retention`: partitions made ahead, closed, dropped by policy."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import DatabaseOption, JsonOption, MetricsPortOption, StackOption
from penstock.settings import DatabaseRole, Settings, load_settings
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock.retention import RetentionOptions
    from penstock_store.retention import RetentionPlan, RetentionReport

__all__ = ["register"]

_WIDE = 100  # columns

_retention = typer.Typer(
    name="retention",
    help="Make partitions ahead of time, finish closed ones, drop expired ones. Keeps everything by default.",
    no_args_is_help=True,
)

DaysOption = Annotated[
    float | None,
    typer.Option(
        "--retain-days",
        min=0.001,
        help="Drop partitions recorded longer ago; default: PENSTOCK_RETAIN_DAYS, or never.",
    ),
]
AheadOption = Annotated[
    int, typer.Option("--ahead", min=1, max=400, help="Partitions to have ready after now's.")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]


def register(app: typer.Typer) -> None:
    """Mount `penstock retention`."""
    app.add_typer(_retention)


def _resolve(
    retain_days: float | None, ahead: int, database_url: str | None, stack: str | None, interval: float = 60.0
) -> tuple[Settings, "RetentionOptions"]:
    from penstock.retention import RetentionOptions
    from penstock_store.retention import RetentionPolicy

    settings = load_settings(retain_days=retain_days, retention_database_url=database_url, stack=stack)
    policy = RetentionPolicy(
        retain_days=settings.retain_days,
        dedupe_window=timedelta(hours=settings.dedupe_window_hours),
        ahead=ahead,
    )
    dsn = settings.database(DatabaseRole.RETENTION)
    return settings, RetentionOptions(
        dsn=dsn, policy=policy, interval=interval, timeout=settings.timeout_seconds
    )


@_retention.command("plan")
def _plan(
    retain_days: DaysOption = None,
    ahead: AheadOption = 3,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Show what becomes of each partition, and why. Changes nothing."""
    from penstock.retention import plan_now

    _, options = _resolve(retain_days, ahead, database_url, stack)
    _show_plan(asyncio.run(plan_now(options)), as_json=as_json)


@_retention.command("run")
def _run(
    dry_run: DryOption = False,
    retain_days: DaysOption = None,
    ahead: AheadOption = 3,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Carry the plan out once. Exits 1 where a step failed; running it again goes on."""
    from penstock.retention import plan_now, run_now

    _, options = _resolve(retain_days, ahead, database_url, stack)
    if dry_run:
        _show_plan(asyncio.run(plan_now(options)), as_json=as_json)
        return
    _, report = asyncio.run(run_now(options))
    typer.echo(json.dumps(_report(report)) if as_json else _said(report))
    for step, why in report.failed.items():
        typer.echo(f"failed: {step}: {why}", err=True)
    raise typer.Exit(ExitCode.FAILED if report.failed else ExitCode.OK)


@_retention.command("worker")
def _worker(
    retain_days: DaysOption = None,
    ahead: AheadOption = 3,
    interval: Annotated[
        float, typer.Option("--interval", min=1, max=86_400, help="Seconds between two runs.")
    ] = 60.0,
    metrics_port: MetricsPortOption = None,
    database_url: DatabaseOption = None,
    stack: StackOption = None,
) -> None:
    """Carry the plan out again and again, until SIGTERM. One such process per database is enough."""
    from penstock.retention import maintain

    settings, options = _resolve(retain_days, ahead, database_url, stack, interval)
    asyncio.run(maintain(options, metrics_host=settings.metrics_host, metrics_port=metrics_port))


def _show_plan(plan: "RetentionPlan", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_plan_object(plan)))
        return
    if plan.decisions:
        console = Console()
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        # a narrow terminal needs the place for the reasons; the name holds the date too
        spans = ("from", "until (UTC)") if console.width >= _WIDE else ("until (UTC)",)
        for column in ("partition", *spans, "state", "events", "", "because"):
            table.add_column(
                column,
                justify="right" if column == "events" else "left",
                no_wrap=column != "because",
                overflow="fold",
            )
        for item in plan.decisions:
            style = "red" if item.action == "drop" else ""
            table.add_row(
                item.partition,
                *map(_short, (item.lower, item.upper)[-len(spans) :]),
                item.state.value,
                "" if item.rows is None else f"{item.rows:,}",
                Text(item.action.value, style=style),
                item.reason,
            )
        console.print(table)
    typer.echo(
        f"To make: {plan.missing}. To finish: {len(plan.close)}. To drop: {len(plan.drop)}. "
        f"Current partition to be rolled: {'yes' if plan.roll else 'no'}. Nothing was changed."
    )


def _short(at: datetime) -> str:
    return f"{at:%Y-%m-%d}" if at.time() == time() else f"{at:%Y-%m-%d %H:%M:%S}"


def _plan_object(plan: "RetentionPlan") -> Mapping[str, object]:
    return {
        "at": plan.at.isoformat(),
        "make": plan.missing,
        "roll": plan.roll,
        "close": list(plan.close),
        "drop": [item.partition for item in plan.drop],
        "partitions": [
            {
                "name": item.partition,
                "lower": item.lower.isoformat(),
                "upper": item.upper.isoformat(),
                "state": item.state.value,
                "events": item.rows,
                "action": item.action.value,
                "reason": item.reason,
            }
            for item in plan.decisions
        ],
    }


def _report(report: "RetentionReport") -> Mapping[str, object]:
    return {
        "made": list(report.made),
        "rolled": report.rolled,
        "closed": list(report.closed),
        "dropped": dict(report.dropped),
        "failed": dict(report.failed),
    }


def _said(report: "RetentionReport") -> str:
    events = sum(report.dropped.values())
    return (
        f"Made {len(report.made)}, finished {len(report.closed)}, dropped {len(report.dropped)} partitions "
        f"({counted(events, 'event')}){'; rolled to the present one' if report.rolled else ''}."
    )
