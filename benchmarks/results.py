"""Results as JSON, as a table and compared with one another."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.plot import bars

LATEST = Path(__file__).parent / "results" / "latest.json"


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def show(result: dict[str, Any], targets: Mapping[str, float]) -> None:
    """The table, to standard output."""
    table = Table(title=f"{result['events']:,} events, medians of {result['rounds']} interleaved rounds")
    for heading in ("figure", "value", "target"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for group, values in result.items():
        if not isinstance(values, dict) or group == "machine":
            continue
        table.add_section()
        for name, value in values.items():
            target = targets.get(name) if group == "ratios" else None
            table.add_row(f"{group}.{name}", _figure(value), f"≥ {target:g}" if target is not None else "")
    Console().print(table)


def _figure(value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def save(result: dict[str, Any], path: Path, targets: Mapping[str, float]) -> None:
    """The JSON, and beside it the plot of the ratios that have a name of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    shown = {name: value for name, value in result["ratios"].items() if ":" not in name}
    path.with_suffix(".svg").write_text(
        bars("Rate beside the limit or the peer (mark: target)", shown, targets)
    )


def compare(before: Path, after: Path) -> None:
    """Print each figure that both results have, and the second over the first."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    table = Table("figure", before.name, after.name, "after ÷ before")
    for group in (name for name, value in old.items() if isinstance(value, dict) and name != "machine"):
        for name in (n for n in old[group] if n in new.get(group, {})):
            a, b = old[group][name], new[group][name]
            if not isinstance(a, int | float) or not isinstance(b, int | float):
                continue
            table.add_row(f"{group}.{name}", f"{a:,.3g}", f"{b:,.3g}", f"{b / a:.2f}" if a else "-")
    Console().print(table)
