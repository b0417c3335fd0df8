"""`make simulate`: many seeds with a progress line, or one with its trace."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pool

from simulation.run import Report, simulate

_CHUNK = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many seeds (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="replay this one with its trace")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed)
    return _run(range(asked.first, asked.first + asked.seeds), asked.workers)


def _replay(seed: int) -> int:
    report = simulate(seed, keep_trace=True)
    _say("\n".join(report.trace))
    _say(f"seed {seed}: {report.records} records, trace {report.digest}")
    return _verdict([report])


def _run(seeds: Sequence[int], workers: int) -> int:
    began, failed = time.monotonic(), list[Report]()
    step, end = (_CHUNK, "\r") if sys.stdout.isatty() else (_CHUNK * 100, "\n")
    for done, report in enumerate(_reports(seeds, workers), 1):
        if report.violations:
            failed.append(report)
            _say(f"\nseed {report.seed}: {report.violations[0]}")
        if done % step == 0 or done == len(seeds):
            speed = done / (time.monotonic() - began)
            sys.stdout.write(f"{done} of {len(seeds)} seeds, {speed:.0f} a second, {len(failed)} failed{end}")
            sys.stdout.flush()
    _say("")
    return _verdict(failed)


def _reports(seeds: Sequence[int], workers: int) -> Iterator[Report]:
    if workers < 2:
        yield from map(simulate, seeds)
        return
    # what is imported stays: not looked through with every collection
    with Pool(workers, initializer=gc.freeze) as pool:
        yield from pool.imap(simulate, seeds, chunksize=_CHUNK)


def _verdict(reports: Sequence[Report]) -> int:
    failed = [report for report in reports if report.violations]
    for report in failed[:20]:
        _say(f"seed {report.seed} failed: {report.violations[0]}; replay: make simulate SEED={report.seed}")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
