"""The demo's summary, for someone who sees Penstock for the first time."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from penstock.demo.result import DemoResult

__all__ = ["Surroundings", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """`command` is how to call Penstock here; `metrics` the worker's /metrics, where there is one of ours."""

    command: str
    metrics: str | None
    sample: bool


def show(result: DemoResult, around: Surroundings, console: Console) -> None:
    """Print everything."""
    console.print()
    console.print(Panel(_story(result), title="What happened", title_align="left", border_style="cyan"))
    if result.history:
        console.print(_history(result, console.width))
    for problem in result.problems:
        console.print(Text(f"✗ {problem}", style="bold red"))
    for note in result.notes:
        console.print(Text(f"! {note}", style="yellow"))
    around_here = _next(result, around, console.width)
    console.print(Panel(around_here, title="Look around", title_align="left", border_style="cyan"))


def _story(result: DemoResult) -> RenderableType:
    rate = f"{result.emitted / result.seconds:,.0f} a second" if result.seconds > 0 else "at once"
    emitted = (
        f"{result.emitted:,} records of {result.source} went to Kafka's topic {result.topic}, "
        "through the producer library."
    )
    ingested = (
        f"The worker took them from Kafka and wrote them to PostgreSQL in {result.seconds:.1f} s ({rate}, "
        "end to end). Every record has exactly one outcome:"
    )
    read = (
        f"{result.read:,} events of {result.entities:,} entities, {result.correlations:,} correlations and "
        f"{result.event_types} types{_span(result)}, in the store's order, in {result.read_seconds:.1f} s."
    )
    return Group(
        _step(1, "Emitted", emitted),
        _step(2, "Ingested", ingested),
        _outcomes(result),
        _step(3, "Read back", read),
        _verdict(result),
    )


def _span(result: DemoResult) -> str:
    if result.first is None or result.last is None:
        return ""
    return f", from {result.first:%Y-%m-%d %H:%M} to {result.last:%Y-%m-%d %H:%M} UTC"


def _step(number: int, title: str, text: str) -> Text:
    return Text.assemble((f"{number} {title}  ", "bold"), text)


def _outcomes(result: DemoResult) -> Table:
    counts, letters = result.counts, f"{result.topic}.dlq"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=12)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = [
        (counts.stored, "stored", "new events, each in PostgreSQL exactly once"),
        (counts.duplicate, "duplicates", "their idempotency key is stored already: nothing is written twice"),
        (counts.conflict, "conflicts", f"same key, other content: reported, kept in topic {letters}"),
        (counts.dead_lettered, "dead letters", f"no events at all: kept with their cause in topic {letters}"),
    ]
    if counts.tombstone:
        rows.append((counts.tombstone, "tombstones", "empty records: nothing to store"))
    if counts.lost:
        rows.append((counts.lost, "lost", "gone from Kafka, accepted as lost by an operator"))
    for count, name, meaning in rows:
        style = "" if count else "dim"
        table.add_row(Text(f"{count:,}", style=style), Text(name, style=style), Text(meaning, style="dim"))
    return table


def _verdict(result: DemoResult) -> Text:
    if result.problems:
        return Text("  ✗ What was read back is not what was emitted: see below.", style="bold red")
    said = (
        "  ✓ Nothing is missing, and the events of every entity are in the order in which they were emitted."
    )
    return Text(said, style="green")


def _history(result: DemoResult, width: int) -> Table:
    title = f"One entity's history: {result.history[0].entity_id}"
    table = Table(title=title, title_justify="left", header_style="bold", title_style="bold", box=None)
    table.add_column("sequence", justify="right")
    rows = [
        (str(e.sequence), f"{e.occurred_at:%Y-%m-%d %H:%M}", e.event_type, e.actor_id or "-")
        for e in result.history
    ]
    for column in ("occurred (UTC)", "type", "actor", "payload"):
        table.add_column(column, no_wrap=True)
    # What is left of the line is the payload's: Rich would rather narrow the other columns.
    taken = sum(max(len(row[column]) for row in rows) for column in range(1, 4))
    left = max(12, width - taken - len("sequence") - 10)
    for row, event in zip(rows, result.history, strict=True):
        payload = orjson.dumps(event.payload).decode()
        shown = payload if len(payload) <= left else f"{payload[: left - 1]}…"
        table.add_row(*map(Text, row), Text(shown, style="dim"))
    return table


def _next(result: DemoResult, around: Surroundings, width: int) -> Group:
    """As shell lines with comments: a person copies them whole."""
    lines = list(_commands(result, around))
    if any(max(50, len(command)) + len(meaning) + 8 > width for command, meaning in lines):
        return Group(
            *(Text.assemble((f"# {meaning}\n", "dim"), (command, "bold")) for command, meaning in lines)
        )
    width = min(50, max(len(command) for command, _ in lines))
    return Group(
        *(
            Text.assemble((f"{command:<{width}}", "bold"), (f"  # {meaning}", "dim"))
            for command, meaning in lines
        )
    )


def _commands(result: DemoResult, around: Surroundings) -> Iterator[tuple[str, str]]:
    penstock = around.command
    if result.history:
        entity, kind = result.history[0].entity_id, result.history[-1].event_type
        yield f"{penstock} events --entity {_quoted(entity)}", "the history above"
        yield f"{penstock} events --type {_quoted(kind)} --limit 5", "events of one type"
    yield f"{penstock} events --follow", "watch new events arrive"
    yield (
        f"{penstock} demo",
        "once more: all duplicates now" if around.sample else "the built-in sample",
    )
    yield f"{penstock} doctor", "is everything well?"
    if around.metrics:
        yield around.metrics, "the worker's metrics"
    yield f"{penstock} down", "stop; data is kept (--wipe removes it)"


def _quoted(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{text}'"
