"""Where the demo's events come from: the sample, or a file of CloudEvents."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.demo.sample import Poison, poison_records, sample_events
from penstock.errors import InputError
from penstock.loading.lines import LineReader
from penstock.loading.parse import NotAnEvent, event_of_line
from penstock_schemas import Event

__all__ = ["BadLines", "Source", "open_source"]

_SHOWN = 3


@dataclass(slots=True)
class BadLines:
    """Lines of the file that are no events: they never reach Kafka."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, number: int, reason: str) -> None:
        """Count one; the first few are kept to be shown."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"line {number:,}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`events` can be iterated once; `done` says how much of it was read, from 0 to 1, None where unknown."""

    name: str
    events: Iterator[Event]
    bad: BadLines
    done: Callable[[], float | None]
    poison: Callable[[bytes], list[Poison]]


@contextmanager
def open_source(path: Path | None) -> Iterator[Source]:
    """The sample where `path` is None. Raises `InputError`, also while the events are iterated."""
    bad = BadLines()
    if path is None:
        name, sample = "the built-in sample", sample_events()
        yield Source(name=name, events=sample, bad=bad, done=lambda: None, poison=poison_records)
        return
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Give a file of CloudEvents 1.0 JSON lines."
        ) from None
    with raw:
        size = path.stat().st_size or 1
        reader = LineReader(raw, str(path))
        yield Source(
            name=path.name,
            events=_events(reader, bad),
            bad=bad,
            done=lambda: min(1.0, (reader.position() or 0) / size),
            poison=lambda _good: [],
        )


def _events(reader: LineReader, bad: BadLines) -> Iterator[Event]:
    for line in reader:
        if line.fault is not None:
            bad.add(line.number, line.fault)
        elif line.data and not line.data.isspace():
            try:
                yield event_of_line(line.data)
            except NotAnEvent as error:
                bad.add(line.number, str(error))
