"""`penstock dlq`: dead letters, looked at, sent back, put aside."""

import json
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from penstock.cli.dlq_actions import discard, redrive
from penstock.cli.dlq_options import (
    MOST,
    CauseOption,
    OffsetOption,
    PartitionOption,
    SinceOption,
    StateOption,
    TypeOption,
    UntilOption,
    note,
    opened,
    selection_of,
)
from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption, KafkaOption, RegistryOption, StackOption, TopicsOption
from penstock.console import fitting, output
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock_consumer.dlq import Letter, Statistics

__all__ = ["register"]

_DEFAULT_LIMIT = 100
_MESSAGE = 12  # cells that make a message worth showing
_EXPENDABLE = ("time (UTC)", "tries", "type", "state", "cause")  # on a terminal too narrow for all
_STATES = ("open", "redriven", "discarded")

_dlq = typer.Typer(
    name="dlq",
    help="Dead letters: records that could not be stored. See them, send them back, put them aside.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Mount `penstock dlq`."""
    _dlq.command("redrive")(redrive)
    _dlq.command("discard")(discard)
    app.add_typer(_dlq)


@_dlq.command("list")
def _list(
    topic: TopicsOption = None,
    cause: CauseOption = None,
    type_: TypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    partition: PartitionOption = None,
    offset: OffsetOption = None,
    state: StateOption = "open",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, max=MOST, help="How many at most; 0: all.")
    ] = _DEFAULT_LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """List dead letters, oldest first; those of one record once. Changes nothing.

    Examples: penstock dlq list --cause unknown_schema --since 1d; penstock dlq list --state all -n 0 --json
    """
    selection = selection_of(cause, type_, since, until, partition, offset, state)
    letters: list[Letter] = []
    shown, more = 0, False
    with opened(topic, kafka, registry, stack, progress=False) as queues:
        for queue in queues:
            # One more than is shown says whether more follow.
            for letter in islice(queue.letters(selection), None if limit == 0 else limit - shown + 1):
                more = limit > 0 and shown == limit
                if more:
                    break
                shown += 1
                if as_json:
                    typer.echo(_line(letter, queue.name))
                else:
                    letters.append(replace(letter, value=b"", headers=()))
        queues.finish(types_needed=bool(type_))
    if letters:
        _print(letters)
    if more:
        note(f"{counted(shown, 'dead letter')}, and more follow: give --limit N (0: all).")
    elif not shown:
        note("No dead letters match.")
        for queue in queues:
            if not queue.exists():
                note(f"There is no topic {queue.name}: no worker of {queue.topic} has made it yet.")


@_dlq.command("show")
def _show(
    record: Annotated[
        str,
        typer.Argument(metavar="TOPIC:PARTITION@OFFSET", help="The record, as `penstock dlq list` names it."),
    ],
    limit: Annotated[
        int, typer.Option("--bytes", min=1, max=16 << 20, help="How much of values and headers to show.")
    ] = 2048,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Show one dead letter with its cause, headers and value: as an event or JSON, else as hex digits.

    Passwords and tokens are masked where they are recognised. Exits 1 where there is no such dead letter.
    """
    from penstock.dlq.offsets import parse_record
    from penstock.dlq.shown import letter_object, value_object

    try:
        topic, partition, offset = parse_record(record)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="TOPIC:PARTITION@OFFSET") from None
    with opened([topic], kafka, registry, stack) as queues:
        objects = [
            {**letter_object(one, queue.name), **value_object(one, queues.decoder.fields(one), limit)}
            for queue in queues
            for one in queue.find(partition, offset)
        ]
        queues.finish(types_needed=False)
    if not objects:
        note(f"There is no dead letter of {record}.")
        raise typer.Exit(ExitCode.FAILED)
    for one in objects:
        typer.echo(json.dumps(one, ensure_ascii=False) if as_json else _page(one))


@_dlq.command("stats")
def _stats(
    topic: TopicsOption = None,
    cause: CauseOption = None,
    type_: TypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    partition: PartitionOption = None,
    offset: OffsetOption = None,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Count dead letters by topic, cause, event type and state. Changes nothing."""
    selection = selection_of(cause, type_, since, until, partition, offset, "all")
    with opened(topic, kafka, registry, stack) as queues:
        found = {queue.topic: queue.statistics(selection) for queue in queues}
        queues.finish(types_needed=bool(type_))
    if as_json:
        typer.echo(json.dumps({topic: _counts(one) for topic, one in found.items()}, ensure_ascii=False))
        return
    _print_counts(found)
    for topic_, one in found.items():
        if one.repeats:
            note(f"{topic_}: not counted: {counted(one.repeats, 'second dead letter')} of the same record.")


def _line(letter: "Letter", dead_letter_topic: str) -> str:
    from penstock.dlq.shown import letter_object

    return json.dumps(letter_object(letter, dead_letter_topic), ensure_ascii=False)


def _page(one: dict[str, Any]) -> str:
    from penstock.history.lines import printable

    lines = []
    for name, value in one.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        first, *rest = text.splitlines() or [""]
        lines += [f"{name:<12} {printable(first)}", *map(printable, rest)]
    return "\n".join(lines)


def _print(letters: "list[Letter]") -> None:
    from penstock.history.lines import printable
    from penstock.redaction import redact

    columns: dict[str, list[str]] = {
        "record": [str(one.place) for one in letters],
        "time (UTC)": [f"{one.at:%Y-%m-%d %H:%M:%S}" for one in letters],
        "cause": [one.cause for one in letters],
        "type": [one.event_type or "" for one in letters],
        "tries": [str(one.attempts or "") for one in letters],
        "state": ["" if one.state.value == "open" else one.state.value for one in letters],
        "message": [redact(one.message) for one in letters],
    }
    # On a narrow terminal a column without news takes the message's place.
    columns = {name: [printable(cell) for cell in cells] for name, cells in columns.items() if any(cells)}
    messages = columns.pop("message", [])
    console = output()
    # What names a dead letter is never cut; the message is.
    widths = fitting(columns, console.width, _EXPENDABLE)
    left = console.width - sum(widths.values()) - 2 * len(widths) - 2
    if messages and left >= _MESSAGE:
        columns["message"], widths["message"] = messages, left
    table = _table(*widths)
    for row in zip(*(columns[name] for name in widths), strict=True):
        table.add_row(*map(Text, row))
    for column, width in zip(table.columns, widths.values(), strict=True):
        column.width = width
    console.width = max(console.width, widths["record"] + 2)
    console.print(table)


def _print_counts(found: "dict[str, Statistics]") -> None:
    table = _table("topic", "by", "", *_STATES)
    for topic, one in found.items():
        table.add_row(topic, "all", "", *(f"{n:,}" for n in _counts(one)["states"].values()))
        for by in ("causes", "types"):
            for name, states in _counts(one)[by].items():
                table.add_row("", by[:-1], Text(name), *(f"{n:,}" for n in states.values()))
    output().print(table)


def _counts(one: "Statistics") -> dict[str, Any]:
    from penstock_consumer.dlq import State

    def by(counts: Any) -> dict[str, dict[str, int]]:
        names = sorted({name for name, _ in counts}, key=str)
        return {
            "(not decodable)" if name is None else name: {state: counts[name, state] for state in _STATES}
            for name in names
        }

    return {
        "states": {state.value: one.states[state] for state in State},
        "causes": by(one.causes),
        "types": by(one.event_types),
        "repeats": one.repeats,
        "foreign": one.foreign,
    }


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        number = column in (*_STATES, "tries")
        fixed = column in ("record", "time (UTC)", *_STATES, "tries", "state")
        table.add_column(
            column,
            justify="right" if number else "left",
            no_wrap=True,
            overflow="fold" if fixed else "ellipsis",
        )
    return table
