"""What the `penstock dlq` commands share: filters, queues, words."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from penstock.settings import load_settings
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock.dlq.decoding import LetterDecoder
    from penstock_consumer.dlq import DeadLetterQueue, Selection

__all__ = [
    "MOST",
    "AllOption",
    "CauseOption",
    "LimitOption",
    "OffsetOption",
    "PartitionOption",
    "Queues",
    "SinceOption",
    "StateOption",
    "TypeOption",
    "UntilOption",
    "chosen",
    "note",
    "opened",
    "selection_of",
]

T = TypeVar("T")

_FILTERS = "Filters (all of them must hold)"

CauseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cause",
        metavar="CAUSE",
        help="Such as unknown_schema, truncated, key_conflict; repeat for any of several.",
        rich_help_panel=_FILTERS,
    ),
]
TypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="Event type, of those that decode; repeat for any of several.",
        rich_help_panel=_FILTERS,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Dead-lettered at or after: 1h, 7d, 2026-01-31.",
        rich_help_panel=_FILTERS,
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="WHEN", help="Dead-lettered before.", rich_help_panel=_FILTERS),
]
PartitionOption = Annotated[
    int | None,
    typer.Option("--partition", "-p", min=0, help="Of the source topic.", rich_help_panel=_FILTERS),
]
OffsetOption = Annotated[
    str | None,
    typer.Option(
        "--offset",
        "-o",
        metavar="SPAN",
        help="Offsets in the source topic: 17, 100:200, 100:, :200.",
        rich_help_panel=_FILTERS,
    ),
]
StateOption = Annotated[
    Literal["open", "redriven", "discarded", "all"],
    typer.Option("--state", help="What became of them.", rich_help_panel=_FILTERS),
]
AllOption = Annotated[bool, typer.Option("--all", help="All open ones; else give a filter.")]
MOST = 1 << 62  # Kafka has fewer, and nothing here counts further
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, max=MOST, help="How many at most.")]


def selection_of(
    cause: list[str] | None,
    type_: list[str] | None,
    since: str | None,
    until: str | None,
    partition: int | None,
    offset: str | None,
    state: str,
) -> "Selection":
    """What the filters say. Raises `typer.BadParameter`."""
    from penstock.dlq.offsets import parse_offsets
    from penstock_consumer.dlq import Selection, State

    first, stop = (None, None) if offset is None else _parsed("--offset", offset, parse_offsets)
    return Selection(
        states=() if state == "all" else (State(state),),
        causes=frozenset(cause or ()),
        event_types=frozenset(type_ or ()),
        since=_when("--since", since),
        until=_when("--until", until),
        partition=partition,
        first_offset=first,
        next_offset=stop,
    )


def chosen(
    cause: list[str] | None,
    type_: list[str] | None,
    since: str | None,
    until: str | None,
    partition: int | None,
    offset: str | None,
    *,
    every: bool,
) -> "Selection":
    """The same for what changes something: "all" has to be said."""
    selection = selection_of(cause, type_, since, until, partition, offset, "open")
    if every and selection.narrows:
        raise typer.BadParameter("contradicts the filters: leave it out", param_hint="--all")
    if not every and not selection.narrows:
        raise typer.BadParameter("say which are meant: give a filter, such as --cause, or --all")
    return selection


class Queues:
    """The dead-letter queues of the topics, and what decodes their letters."""

    def __init__(self, queues: "Sequence[DeadLetterQueue]", decoder: "LetterDecoder") -> None:
        self.decoder = decoder
        self._queues = queues

    def __iter__(self) -> "Iterator[DeadLetterQueue]":
        for queue in self._queues:
            yield queue
            if queue.expired:
                note(
                    f"{queue.name} holds its first {queue.expired:,} offsets no more: its retention or an "
                    "operator removed them. Dead letters last with retention.ms=-1 and cleanup.policy=delete."
                )
            if queue.foreign:
                note(
                    f"{queue.name}: left out {counted(queue.foreign, 'record')} of other programs or other "
                    f"topics, being no dead letters of {queue.topic}."
                )

    def finish(self, *, types_needed: bool) -> None:
        """Say what the registry did not. Raises its error where types were to choose by."""
        from penstock_schemas.errors import RegistryUnavailable

        if self.decoder.fault is None:
            return
        if types_needed:
            raise RegistryUnavailable(
                f"event types cannot be told, so none of --type was found: {self.decoder.fault}"
            )
        note(f"Event types are unknown: {self.decoder.fault}")


@contextmanager
def opened(
    topic: list[str] | None,
    kafka: str | None,
    registry: str | None,
    stack: str | None,
    *,
    progress: bool = True,
    types: bool = True,
) -> Iterator[Queues]:
    """The queues of the topics that are named, else of the settings'. `types`: ask for event types."""
    settings = load_settings(
        topics=tuple(topic) if topic else None,
        kafka_bootstrap_servers=kafka,
        schema_registry_url=registry,
        stack=stack,
    )
    from penstock.dlq.decoding import LetterDecoder
    from penstock.progress import Watch
    from penstock.worker import WorkerChoices, worker_settings
    from penstock_consumer.dlq import DeadLetterQueue
    from penstock_schemas.registry import SchemaRegistry

    workers = worker_settings(settings, WorkerChoices())
    schemas = SchemaRegistry(settings.registry(), timeout=settings.timeout_seconds)
    decoder = LetterDecoder(schemas)
    try:
        # A bar and a table that grows on the same terminal would overwrite each other.
        with Watch("Reading dead letters", quiet=not progress and sys.stdout.isatty()) as watch:
            queues = [
                DeadLetterQueue(workers, name, type_of=decoder.event_type if types else None, progress=watch)
                for name in workers.topics
            ]
            yield Queues(queues, decoder)
    finally:
        schemas.close()


def note(text: str) -> None:
    """For people, beside what a program reads."""
    typer.echo(text, err=True)


def _when(option: str, text: str | None) -> datetime | None:
    from penstock.history.when import parse_when

    return None if text is None else _parsed(option, text, lambda said: parse_when(said, datetime.now(UTC)))


def _parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
