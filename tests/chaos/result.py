"""What a scenario came to: a row of the table and an entry of `build/faults.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fixtures.oracle import Findings

__all__ = ["Result", "show", "write"]


@dataclass(kw_only=True)
class Result:
    """`recoveries`: seconds from a restart (or the fault's end) to the first batch after it."""

    scenario: str
    cycles: int
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)
    recoveries: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Something that must hold did not."""
        return bool(self.faults)

    def as_json(self) -> dict[str, Any]:
        """Flat, as `build/faults.json` has it."""
        found = asdict(self.findings)
        return {
            "scenario": self.scenario,
            "cycles": self.cycles,
            **{name: found[name] for name in found if name not in ("unbalanced", "examples")},
            "seconds": round(self.seconds, 1),
            "recover_p50_s": percentile(self.recoveries, 0.50),
            "recover_p99_s": percentile(self.recoveries, 0.99),
            "recoveries_s": [round(value, 2) for value in self.recoveries],
            "notes": self.notes,
            "faults": self.faults,
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


def write(path: Path, results: Iterable[Result]) -> None:
    """All results so far, so that an interrupted run leaves what it found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n")


def show(results: Iterable[Result]) -> None:
    """The table, to stdout."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario")
    for name in (
        "cycles", "events", "lost", "twice", "reordered", "altered", "stale", "recover p50", "p99", "seconds",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    table.add_column("")
    for result in results:
        entry = result.as_json()
        columns = (
            "cycles", "events", "lost", "duplicated", "reordered", "altered", "stale_rows", "recover_p50_s",
            "recover_p99_s",
        )  # fmt: skip
        cells = ["-" if entry[name] is None else f"{entry[name]:,}" for name in columns]
        table.add_row(
            result.scenario,
            *cells,
            f"{result.seconds:.0f}",
            "[red]FAILED" if result.failed else "[green]ok",
        )
    Console(width=None if Console().is_terminal else 140).print(table)
