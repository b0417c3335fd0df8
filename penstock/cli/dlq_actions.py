"""`penstock dlq redrive` and `discard`: what changes something."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.dlq_options import (
    AllOption,
    CauseOption,
    LimitOption,
    OffsetOption,
    PartitionOption,
    SinceOption,
    TypeOption,
    UntilOption,
    chosen,
    note,
    opened,
)
from penstock.cli.exit_codes import ExitCode
from penstock.cli.options import JsonOption, KafkaOption, RegistryOption, StackOption, TopicsOption
from penstock.processes import sigterm_interrupts
from penstock.wording import counted

if TYPE_CHECKING:
    from penstock_consumer.dlq import Letter

__all__ = ["discard", "redrive"]

_SHOWN = 20  # dead letters named one by one
_WHY = {
    "attempts": "was sent back as often as --max-attempts allows",
    "gone": "was too large for the dead-letter topic, and is gone from its own",
    "too_large": "is too large for its topic by now: raise its max.message.bytes",
}
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]


def redrive(
    topic: TopicsOption = None,
    cause: CauseOption = None,
    type_: TypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    partition: PartitionOption = None,
    offset: OffsetOption = None,
    every: AllOption = False,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", min=1, help="Leave those that were sent back so often.")
    ] = 3,
    limit: LimitOption = None,
    dry_run: DryOption = False,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Send open dead letters back to their topic: same bytes, key, headers, partition. Mend the cause first.

    Each is sent once, however often this is run or interrupted. They come late: behind the newer events of
    their entity. Where a producer has emitted an event anew since, send its dead letter back within the
    workers' dedupe window (24 h), or discard it: later it would be stored twice. Exits 1 where some were
    left; they are named.

    Example: penstock dlq redrive --cause unknown_schema --dry-run
    """
    from penstock_consumer import dlq

    selection = chosen(cause, type_, since, until, partition, offset, every=every)
    told = _Told(dry_run=dry_run)
    with sigterm_interrupts(), opened(topic, kafka, registry, stack, types=bool(type_) or dry_run) as queues:
        for queue in queues:
            rest = None if limit is None else limit - told.done
            if rest != 0:
                dlq.redrive(
                    queue, selection, max_attempts=max_attempts, limit=rest, dry_run=dry_run, tell=told.hear
                )
        queues.finish(types_needed=bool(type_))
    told.conclude("redriven", as_json=as_json)


def discard(
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the mark.")],
    topic: TopicsOption = None,
    cause: CauseOption = None,
    type_: TypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    partition: PartitionOption = None,
    offset: OffsetOption = None,
    every: AllOption = False,
    limit: LimitOption = None,
    dry_run: DryOption = False,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Mark open dead letters as discarded: a redrive then leaves them. Nothing is deleted.

    Example: penstock dlq discard --cause truncated --until 7d --reason "test data of the migration"
    """
    from penstock_consumer import dlq

    if not reason.strip():
        raise typer.BadParameter("must not be empty", param_hint="--reason")
    selection = chosen(cause, type_, since, until, partition, offset, every=every)
    told = _Told(dry_run=dry_run)
    with sigterm_interrupts(), opened(topic, kafka, registry, stack, types=bool(type_) or dry_run) as queues:
        for queue in queues:
            rest = None if limit is None else limit - told.done
            if rest != 0:
                dlq.discard(queue, selection, reason=reason, limit=rest, dry_run=dry_run, tell=told.hear)
        queues.finish(types_needed=bool(type_))
    told.conclude("discarded", as_json=as_json)


class _Told:
    """What was heard of, summed up; the first ones by name."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self._topics: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    @property
    def done(self) -> int:
        return self._topics.total()

    def hear(self, letter: "Letter", why: str | None) -> None:
        """See `penstock_consumer.dlq.actions.Tell`."""
        if why is not None:
            self._left[why] += 1
            if self._left.total() <= _SHOWN:
                note(f"left: {letter.place} {_WHY[why]} (attempts: {letter.attempts})")
            return
        self._topics[letter.place.topic] += 1
        if self._dry_run and self.done <= _SHOWN:
            note(f"would be: {letter.place} {letter.cause} {letter.event_type or ''}".rstrip())

    def conclude(self, verb: str, *, as_json: bool) -> None:
        """Print the sums and end the command."""
        if as_json:
            said = {
                "dry_run": self._dry_run,
                verb: self.done,
                "topics": self._topics,
                "left": {why: self._left[why] for why in _WHY},
            }
            typer.echo(json.dumps(said))
        else:
            left = f"; {self._left.total():,} left open" if self._left else ""
            done = f"{'would be ' if self._dry_run else ''}{verb}"
            typer.echo(f"{counted(self.done, 'dead letter')} {done}{left}.")
        raise typer.Exit(ExitCode.FAILED if self._left else ExitCode.OK)
