"""A reconciliation for people, for programs, and for Prometheus' textfile collector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from penstock.errors import InputError
from penstock.metrics import gauge
from penstock.reconcile.verdict import Line, Reconciliation
from penstock.wording import counted
from penstock_schemas import metric_defs

__all__ = ["as_object", "sentence", "table", "write_metrics"]

_OUTCOMES = ("stored", "duplicate", "conflict", "dead_lettered", "tombstone", "lost")
_HEADINGS = {"dead_lettered": "dead", "duplicate": "dupl.", "tombstone": "tomb."}


def as_object(found: Reconciliation) -> dict[str, object]:
    """For programs. Counts are records, positions offsets."""
    return {
        "at": found.at.isoformat(),
        "group": found.group,
        "balanced": found.balanced,
        "waiting": found.waiting,
        "partitions": [_line(line) for line in found.lines],
        "store": [{**asdict(leaf), "beside": leaf.beside} for leaf in found.leaves],
        "problems": [
            {"where": where, "problem": problem.value, "said": said}
            for where, problem, said in found.problems
        ],
        "notes": list(found.notes),
    }


def table(found: Reconciliation) -> Table:
    """A row for each partition; columns that would hold zeros alone are left out."""
    columns = {
        "partition": [f"{line.topic}:{line.partition}" for line in found.lines],
        "first": [f"{line.first:,}" for line in found.lines],
        "position": ["-" if line.position is None else f"{line.position:,}" for line in found.lines],
    }
    for name in _OUTCOMES:
        columns[_HEADINGS.get(name, name)] = [f"{getattr(line.counts, name):,}" for line in found.lines]
    columns["gaps"] = [
        f"{line.gaps + line.unverified:,}{'?' if line.unverified else ''}" for line in found.lines
    ]
    columns["waiting"] = [f"{line.waiting:,}" for line in found.lines]
    columns = {name: cells for name, cells in columns.items() if name == "stored" or set(cells) - {"0"}}
    shown = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name, cells in columns.items():
        justify: JustifyMethod = "left" if name == "partition" else "right"
        width = max(len(name), *map(len, cells))
        shown.add_column(name, justify=justify, no_wrap=True, min_width=width)
    shown.add_column("", overflow="fold")
    for line, *cells in zip(found.lines, *columns.values(), strict=True):
        said = "; ".join(line.problems)
        shown.add_row(*cells, Text(said or "balanced", style="red" if said else ""))
    return shown


def sentence(found: Reconciliation) -> str:
    """What it comes to."""
    total = sum(line.counts.total for line in found.lines)
    unverified = sum(line.unverified for line in found.lines)
    beside = sum(leaf.beside for leaf in found.leaves)
    parts = [
        f"{counted(total, 'record')} accounted for",
        f"{counted(found.waiting, 'record')} waiting",
    ]
    if unverified:
        parts.append(f"{counted(unverified, 'offset')} without outcome not verified (?)")
    if beside:
        parts.append(f"{counted(beside, 'event')} came without Kafka")
    verdict = "Balanced" if found.balanced else f"NOT balanced ({counted(len(found.problems), 'problem')})"
    return f"{verdict}: {', '.join(parts)}."


def write_metrics(found: Reconciliation, path: Path) -> None:
    """Replace `path` as a whole with the result. Raises `InputError` where it cannot be written."""
    registry = CollectorRegistry()
    balanced = gauge(metric_defs.RECONCILE_BALANCED, registry)
    records = gauge(metric_defs.RECONCILE_RECORDS, registry)
    problems = gauge(metric_defs.RECONCILE_PROBLEMS, registry)
    waiting = gauge(metric_defs.RECONCILE_WAITING, registry)
    gauge(metric_defs.RECONCILE_LAST_RUN, registry).set(found.at.timestamp())
    balanced.set(found.balanced)
    problems.set(len(found.problems))
    outcomes: Counter[tuple[str, str]] = Counter()
    for line in found.lines:
        for name in _OUTCOMES:
            outcomes[line.topic, name] += getattr(line.counts, name)
    for (topic, name), count in outcomes.items():
        records.labels(topic=topic, outcome=name).set(count)
    for topic in {line.topic for line in found.lines}:
        waiting.labels(topic=topic).set(sum(line.waiting for line in found.lines if line.topic == topic))
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise InputError(
            f"--textfile: {path} cannot be written: {error.strerror}. The reconciliation itself ended well."
        ) from None


def _line(line: Line) -> Mapping[str, object]:
    shown = asdict(line)
    shown["problems"] = {problem.value: said for problem, said in line.problems.items()}
    return shown
