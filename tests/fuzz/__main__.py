"""`make fuzz`: coverage-guided fuzzing of framing, decoding and COPY rows; atheris in a few processes.

A record or a schema that does harm (another error than a refusal, decode and row at odds, a hang, too much
memory) is kept in build/fuzz/; put it into tests/fuzz/corpus/ with the repair, where `make test` replays it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus")
OUT = ROOT / "build" / "fuzz"
_MEMORY_MIB, _INPUT_SECONDS, _LONGEST = 1024, 10, 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs in all (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=1800, help="at most (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--atheris", type=Path, required=True, help="the folder that atheris is installed in")
    asked = parser.parse_args()
    if min(asked.runs, asked.seconds, asked.workers) < 1:
        parser.error("--runs, --seconds and --workers must be at least 1")
    shutil.rmtree(OUT, ignore_errors=True)
    started = [_start(number, asked) for number in range(asked.workers)]
    try:
        codes = [process.wait(asked.seconds + 120) for process in started]
    finally:
        for process in started:
            process.kill()
    return _verdict(codes, asked.runs)


def _start(number: int, asked: argparse.Namespace) -> subprocess.Popen[bytes]:
    folder = OUT / str(number)
    folder.mkdir(parents=True)
    options = {
        "runs": -(-asked.runs // asked.workers),
        "max_total_time": asked.seconds,
        "seed": number + 1,
        "rss_limit_mb": _MEMORY_MIB,
        "timeout": _INPUT_SECONDS,
        "max_len": _LONGEST,
        "artifact_prefix": f"{OUT}/",
        "print_final_stats": 1,
    }
    path = os.pathsep.join([str(ROOT / "tests"), str(asked.atheris)])
    with (OUT / f"{number}.log").open("wb") as log:
        return subprocess.Popen(
            # new inputs go to the first folder, so that the seeds stay as they are
            [
                sys.executable, "-m", "fuzz.run", *(f"-{k}={v}" for k, v in options.items()),
                str(folder), str(CORPUS),
            ],
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=log,
        )  # fmt: skip


def _verdict(codes: Sequence[int], wanted: int) -> int:
    logs = [(OUT / f"{number}.log").read_text(errors="replace") for number in range(len(codes))]
    done = sum(_stat(log, "number_of_executed_units") for log in logs)
    peak = max(_stat(log, "peak_rss_mb") for log in logs)
    sys.stdout.write(f"{done:,} inputs of {wanted:,}; at most {peak} MiB in a process\n")
    for code, log in zip(codes, logs, strict=True):
        if code:
            sys.stdout.write(f"A process ended with {code}:\n{log[-3000:]}\n")
    harmful = sorted(file.name for file in OUT.iterdir() if re.match("crash-|timeout-|oom-|leak-", file.name))
    if harmful:
        sys.stdout.write(f"Harmful inputs in {OUT}: {', '.join(harmful)}\n")
    return 1 if harmful or any(codes) else 0


def _stat(log: str, name: str) -> int:
    found = re.findall(rf"stat::{name}:\s+(\d+)", log)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
