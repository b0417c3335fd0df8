"""`make faults`: real servers and workers, and everything that can happen to them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chaos.result import Result, show, write
from chaos.rig import Site
from chaos.scenarios import SCENARIOS
from chaos.scenarios.scenario import Scenario
from fixtures import leftovers
from fixtures.private_servers import PrivateKafka, PrivatePostgres, running_kafka, running_postgres

_OUT = Path(__file__).parents[2] / "build" / "faults.json"


def main() -> int:
    names = "\n".join(f"  {one.name:20}{one.about} (cycles: {one.cycles})" for one in SCENARIOS.values())
    parser = argparse.ArgumentParser(
        prog="make faults",
        description=__doc__,
        epilog=f"scenarios:\n{names}\n\nIn make's words: SCENARIO=a,b CYCLES=100 OUTAGE=600 EVENTS=1000000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", default="", help="some of them, with commas between (default: all)")
    parser.add_argument("--cycles", type=_positive, help="instead of each scenario's own number")
    parser.add_argument("--outage", type=_positive, default=15, help="seconds of long outages (%(default)s)")
    parser.add_argument(
        "--events", type=_positive, default=20_000, help="events a cycle of poison (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=_OUT, help="where the results go as JSON (%(default)s)")
    asked = parser.parse_args()
    chosen = asked.scenario.split(",") if asked.scenario else list(SCENARIOS)
    if unknown := [name for name in chosen if name not in SCENARIOS]:
        parser.error(f"no such scenario: {', '.join(unknown)}. There are: {', '.join(SCENARIOS)}")
    if any(SCENARIOS[name].disk for name in chosen) and os.geteuid() != 0:
        if asked.scenario:
            parser.error("a small disk (tmpfs) has to be mounted, which needs root: sudo make faults …")
        chosen = [name for name in chosen if not SCENARIOS[name].disk]
        sys.stderr.write(
            "Without root no small disk can be mounted: full-disk and full-disk-files are left out\n"
        )
    results = _run([SCENARIOS[name] for name in chosen], asked)
    sys.stderr.write(f"\nResults: {asked.out}; logs beside it in faults/\n")
    return 1 if any(result.failed for result in results) else 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _run(chosen: list[Scenario], asked: argparse.Namespace) -> list[Result]:
    results: list[Result] = []
    leftovers.sweep()
    logs = asked.out.parent / "faults"
    shutil.rmtree(logs, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix="penstock-faults-") as folder,
        running_kafka(Path(folder)) as broker,
    ):
        try:
            for scenario in chosen:
                sys.stderr.write(f"{scenario.name}: {scenario.about}\n")
                results.append(_one(scenario, broker, logs / scenario.name, asked))
                for fault in results[-1].faults:
                    sys.stderr.write(f"  FAULT: {fault}\n")
                sys.stderr.write(f"  {results[-1].seconds:.0f} s, {results[-1].notes}\n")
                write(asked.out, results)
        finally:
            show(results)
    return results


def _one(scenario: Scenario, broker: PrivateKafka, folder: Path, asked: argparse.Namespace) -> Result:
    folder.mkdir(parents=True)
    with _disk(scenario.disk) as disk, _postgresql(scenario, folder, disk) as server:
        site = Site(
            kafka=broker.bootstrap_servers,
            database=server,
            folder=folder,
            broker=broker,
            server=server,
            disk=disk,
            outage=asked.outage,
            events=asked.events,
        )
        return asyncio.run(scenario.run(site, asked.cycles))


def _postgresql(
    scenario: Scenario, folder: Path, disk: Path | None
) -> contextlib.AbstractContextManager[PrivatePostgres]:
    return running_postgres(folder, home=disk / "postgresql" if disk and scenario.attack else None)


@contextlib.contextmanager
def _disk(mib: int) -> Iterator[Path | None]:
    """A file system of so many MiB, which servers that are not root's can reach."""
    if not mib:
        yield None
        return
    disk = Path(tempfile.mkdtemp(prefix="penstock-disk-"))
    disk.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "penstock-faults", str(disk)]
    subprocess.run(mount, check=True, timeout=30)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=30)
        disk.rmdir()


if __name__ == "__main__":
    sys.exit(main())
