"""Results as JSON, as a table and compared with one another."""

from __future__ import annotations

import json
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import Round

LATEST = Path(__file__).parent / "results" / "latest.json"


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def summarise(rounds: dict[str, list[Round]], count: int) -> dict[str, Any]:
    """Medians by index set; `ratios` are medians of each round's own ratio."""

    def median(indexes: str, name: str) -> float:
        return round(statistics.median(getattr(r, name) for r in rounds[indexes]), 4)

    figures = tuple(Round.__dataclass_fields__)
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "events": count,
        "rounds": {indexes: len(of) for indexes, of in rounds.items()},
        "ratios": {f"worker_{indexes}": median(indexes, "ratio") for indexes in rounds},
        "events_per_s": {
            f"{who}_{indexes}": median(indexes, f"{who}_rate")
            for indexes in rounds
            for who in ("worker", "limit")
        },
        "cpu_s_per_million": {
            f"{name.removesuffix('_cpu')}_{indexes}": median(indexes, name)
            for indexes in rounds
            for name in figures
            if name.endswith("_cpu")
        },
        "wal_bytes_per_event": {
            f"{name.removesuffix('_wal')}_{indexes}": median(indexes, name)
            for indexes in rounds
            for name in figures
            if name.endswith("_wal")
        },
        "memory_mib": {f"worker_{indexes}": median(indexes, "worker_memory") for indexes in rounds},
    }


def show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['events']:,} events, medians of interleaved rounds")
    for heading in ("figure", "value"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for group in ("ratios", "events_per_s", "cpu_s_per_million", "wal_bytes_per_event", "memory_mib"):
        table.add_section()
        for name, value in result[group].items():
            table.add_row(f"{group}.{name}", f"{value:,.2f}" if value < 1000 else f"{value:,.0f}")
    Console().print(table)


def save(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def compare(before: Path, after: Path) -> None:
    """Print each figure that both results have, and the second over the first."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    table = Table("figure", before.name, after.name, "after ÷ before")
    for group in (
        name for name, value in old.items() if isinstance(value, dict) and name not in ("machine", "rounds")
    ):
        for name in (n for n in old[group] if n in new.get(group, {})):
            a, b = old[group][name], new[group][name]
            table.add_row(f"{group}.{name}", f"{a:,.3g}", f"{b:,.3g}", f"{b / a:.2f}" if a else "-")
    Console().print(table)
