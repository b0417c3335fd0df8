"""`penstock load`: a file of CloudEvents to Kafka."""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer
from rich.console import Console

from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption, KafkaOption, RegistryOption, StackOption
from penstock.errors import InputError
from penstock.processes import sigterm_interrupts
from penstock.settings import Settings, load_settings
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock.loading.load import Emit
    from penstock.loading.summary import LoadSummary

__all__ = ["load"]

_FLUSH = 130.0  # longer than a delivery can take: what has no answer by then never gets one


def load(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CloudEvents 1.0 JSON lines, plain or gzip; - reads stdin.")
    ],
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", help="Topic (default: the first of the settings).")
    ] = None,
    on_error: Annotated[
        Literal["skip", "stop"],
        typer.Option("--on-error", help="A bad line or a failed delivery: go on with the next, or stop."),
    ] = "skip",
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="Write the bad lines there.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many events.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read, check and encode everything; connect to nothing.")
    ] = False,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Emit the events of a file, in its order; each entity's order is kept. Makes a missing topic.

    An event's idempotency key is its source and id: loading a file again within the dedupe window stores
    nothing twice. Exits 0 where every line was emitted or blank, 5 where lines were bad or the file broke
    off, 4 where Kafka did not take all.
    """
    from penstock.loading.lines import LineReader
    from penstock.loading.load import load_lines
    from penstock.loading.report import LoadReport

    settings = load_settings(kafka_bootstrap_servers=kafka, schema_registry_url=registry, stack=stack)
    name = topic or settings.topics[0]
    with ExitStack() as opened:
        raw, size = _open(file, opened)
        console = Console(stderr=True)
        report = LoadReport(
            console,
            position=lambda: reader.position(),
            size=size,
            rejects=_open_rejects(rejects, file, opened),
        )
        reader = LineReader(raw, file, on_overlong=report.reject)
        emit, flush = _check_only(name) if dry_run else _emitter(settings, name, opened)
        opened.enter_context(sigterm_interrupts())
        with report:
            summary = load_lines(reader, emit, flush, report, on_error=on_error, limit=limit)
    _conclude(summary, name, dry_run=dry_run, as_json=as_json, console=console)


def _open(file: str, opened: ExitStack) -> tuple[BinaryIO, int | None]:
    if file == "-":
        return sys.stdin.buffer, None
    path = Path(file)
    try:
        raw = opened.enter_context(path.open("rb"))
        return raw, path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}. Give a file of CloudEvents 1.0 JSON lines, or -."
        ) from None


def _open_rejects(rejects: Path | None, file: str, opened: ExitStack) -> BinaryIO | None:
    if rejects is None:
        return None
    if rejects.exists() and Path(file).exists() and rejects.samefile(file):
        raise InputError("--rejects names the file that is to be read; name another one.")
    try:
        return opened.enter_context(rejects.open("wb"))
    except OSError as error:
        raise InputError(f"--rejects: {rejects} cannot be written: {error.strerror}.") from None


def _emitter(settings: Settings, topic: str, opened: ExitStack) -> "tuple[Emit, Callable[[], None]]":
    from penstock.loading.servers import make_topic, producer_of

    make_topic(settings, topic, partial(typer.echo, err=True))
    producer = opened.enter_context(producer_of(settings, topic))

    def flush() -> None:
        from penstock_producer import NotDelivered

        with suppress(NotDelivered):  # the summary counts and names them, line by line
            producer.flush(_FLUSH)

    return producer.emit, flush


def _check_only(topic: str) -> "tuple[Emit, Callable[[], None]]":
    from penstock_producer.testing import InMemoryProducer
    from penstock_schemas import Event

    producer = InMemoryProducer(topic=topic)

    def check(event: Event) -> None:
        producer.encode(event)

    return check, lambda: None


def _conclude(summary: "LoadSummary", topic: str, *, dry_run: bool, as_json: bool, console: Console) -> None:
    from penstock.loading.summary import End

    if as_json:
        said = {"topic": topic, "dry_run": dry_run, **summary.as_json()}
        typer.echo(json.dumps(said, ensure_ascii=False))
    else:
        typer.echo(_sentence(summary, topic, dry_run=dry_run))
    if summary.end not in (End.COMPLETE, End.LIMIT):
        console.print(f"Ended early: {summary.why}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(exit_code_of(summary))


def _sentence(summary: "LoadSummary", topic: str, *, dry_run: bool) -> str:
    done = "would be emitted" if dry_run else "emitted"
    rate = summary.emitted / summary.seconds if summary.seconds else 0
    parts = [
        f"{counted(summary.emitted, 'event')} {done} to topic {topic} in {summary.seconds:.1f} s "
        f"({rate:,.0f} events/s)",
        f"{counted(summary.lines, 'line')} read",
    ]
    for count, what in (
        (summary.blank, "blank"),
        (summary.bad, "bad"),
        (summary.failed, "not delivered"),
        (summary.unanswered, "without an answer from Kafka"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    return "; ".join(parts)


def exit_code_of(summary: "LoadSummary") -> ExitCode:
    """The worst thing that happened decides."""
    from penstock.loading.summary import End

    if summary.end is End.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if summary.failed or summary.unanswered or summary.end is End.UNAVAILABLE:
        return ExitCode.UNAVAILABLE
    if summary.bad or summary.end is End.BROKEN:
        return ExitCode.DATA
    return ExitCode.OK
