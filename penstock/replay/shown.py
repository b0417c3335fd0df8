"""Plans and runs in words and tables."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from penstock.console import fitting, output
from penstock.wording import counted
from penstock_store.ingest.segments import Kind

if TYPE_CHECKING:
    from penstock.replay.compare import Comparison
    from penstock.replay.plan import Plan
    from penstock.replay.run import RunSummary
    from penstock.replay.status import ReplayStatus

__all__ = ["comparison", "sentence", "show_plan", "show_runs"]

_SHOWN = 5  # stretches that are gone
_LEFT = {"in books": Kind.INGESTED, "expired": Kind.EXPIRED, "gone": Kind.GONE, "worker's": Kind.AHEAD}
"""Columns of what is not read."""


def show_plan(plan: "Plan", *, as_json: bool) -> None:
    """The table and what is to be said of it, or one JSON object."""
    if as_json:
        typer.echo(json.dumps(_plan_object(plan)))
        return
    _print_parts(plan)
    typer.echo(
        f"{counted(plan.to_read, 'offset')} to read: "
        f"{plan.width(Kind.MISSING):,} missing from the books, {plan.width(Kind.SKIPPED):,} given up earlier"
        f"{f', {_reopened(plan):,} expired' if plan.asked.expired else ''}. Nothing was changed."
    )
    for advice in _advice(plan):
        typer.echo(advice, err=True)


def _print_parts(plan: "Plan") -> None:
    parts = plan.parts
    columns = {
        "partition": [f"{part.ref.topic}:{part.ref.partition}" for part in parts],
        "from": [f"{part.log.first:,}" for part in parts],
        "until": [f"{part.log.next:,}" for part in parts],
        "to read": [f"{part.to_read:,}" for part in parts],
    }
    for name, kind in _LEFT.items():
        columns[name] = [f"{part.widths[kind]:,}" if part.widths[kind] else "" for part in parts]
    console = output()
    empty = [name for name in _LEFT if not any(columns[name])]
    widths = fitting(columns, console.width, [*empty, *_LEFT, "from", "until"])
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name, width in widths.items():
        table.add_column(name, justify="left" if name == "partition" else "right", no_wrap=True, width=width)
    for row in zip(*(columns[name] for name in widths), strict=True):
        table.add_row(*row)
    console.width = max(console.width, sum(widths.values()) + 2 * len(widths))
    console.print(table)


def _reopened(plan: "Plan") -> int:
    return sum(part.reopened for part in plan.parts)


def _advice(plan: "Plan") -> list[str]:
    said = []
    if plan.unplaced:
        names = ", ".join(f"{ref.topic}:{ref.partition}" for ref in plan.unplaced)
        said.append(
            f"No worker of group {plan.asked.group_id} has a position in {names}: a worker reads them from "
            "the start by itself (`penstock worker`). To be live at once and fill the past afterwards, start "
            "it once with --start latest, then replay."
        )
    gone = [
        f"{part.ref.topic}:{part.ref.partition} {item.first}:{item.next}"
        for part in plan.parts
        for item in part.segments
        if item.kind is Kind.GONE
    ]
    if gone:
        more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
        said.append(f"Kafka has no longer what is missing of {', '.join(gone[:_SHOWN])}{more}.")
    expired = plan.width(Kind.EXPIRED)
    if expired and not plan.asked.expired:
        said.append(
            f"{counted(expired, 'offset')} stay expired, as retention says; --expired reads them again."
        )
    return said


def _plan_object(plan: "Plan") -> Mapping[str, object]:
    return {
        "group": plan.asked.group_id,
        "span": plan.asked.span,
        "to_read": plan.to_read,
        "totals": {str(kind): plan.width(kind) for kind in Kind},
        "partitions": [
            {
                "topic": part.ref.topic,
                "partition": part.ref.partition,
                "first": part.log.first,
                "next": part.log.next,
                "low": part.log.low,
                "high": part.log.high,
                "position": part.position,
                "to_read": part.to_read,
                "reopened": part.reopened,
                "segments": [
                    {"first": item.first, "next": item.next, "kind": str(item.kind)} for item in part.segments
                ],
            }
            for part in plan.parts
        ],
    }


def sentence(summary: "RunSummary") -> str:
    """How a run ended."""
    counts = ", ".join(
        f"{count:,} {name.replace('_', '-')}" for name, count in summary.counts.items() if count
    )
    left = "" if summary.end == "finished" else " Run it again to go on."
    if left and summary.expired:  # how the outcomes were spread over the range is not known, so it stays open
        left += " Until it has ended, `penstock reconcile` calls the rest of an expired range missing."
    return (
        f"Replay {summary.run} {summary.end}: {counted(summary.offsets, 'offset')} accounted for "
        f"({counts or 'no records'}).{left}"
    )


def comparison(found: "Comparison") -> str:
    """What a comparison found: a line, and one for each difference that is named."""
    total = found.differences.total()
    said = [
        f"{counted(found.equal, 'event')} equal in every column; {counted(total, 'key')} with a difference"
        + (
            f" ({', '.join(f'{n:,} {kind}' for kind, n in sorted(found.differences.items()))})"
            if total
            else ""
        )
        + f"; {counted(found.only_in_store, 'key')} only in the store."
    ]
    for item in found.listed:
        columns = f" in {', '.join(item.columns)}" if item.columns else ""
        said.append(f"  {item.kind}{columns}: tenant {item.tenant_id}, key {item.idempotency_key}")
    return "\n".join(said)


def show_runs(runs: "Sequence[ReplayStatus]") -> None:
    """A table, newest first, and why runs failed."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("run", "state", "done", "stored", "other", "rate", "began", "asked"):
        right = column in ("run", "done", "stored", "other", "rate")
        table.add_column(
            column, justify="right" if right else "left", no_wrap=column != "asked", overflow="fold"
        )
    for item in runs:
        # A run may end with less than it began with: others, or compaction, left it nothing.
        whole = item.state == "finished" or not item.records
        share = 100 if whole else 100 * item.done // item.records
        table.add_row(
            str(item.id),
            item.state,
            f"{min(share, 100)} %",
            f"{item.stored:,}",
            f"{item.duplicate + item.conflict + item.dead_lettered + item.tombstone:,}",
            f"{item.rate:,.0f}/s",
            f"{item.started_at:%Y-%m-%d %H:%M}",
            item.asked,
        )
    output().print(table)
    for item in runs:
        if item.message:
            typer.echo(f"{item.id}: {item.message}")
