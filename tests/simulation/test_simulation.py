"""The worker's core under 10,000 seeds of faults, and what makes those runs worth something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.planted import PLANTED, planted
from simulation.run import simulate

SEEDS, SHARE = 10_000, 500
WITHIN = 600  # seeds in which every planted bug has to be found

_TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE), ids=lambda first: f"{SHARE}-seeds-from-{first}")
def test_every_invariant_holds_whatever_the_seed_does(first: int) -> None:
    reports = map(simulate, range(first, first + SHARE))
    failed = [f"make simulate SEED={one.seed}: {one.violations[0]}" for one in reports if one.violations]
    assert not failed


@pytest.mark.parametrize("name", PLANTED, ids=lambda name: name.replace(" ", "-").replace("'", ""))
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        assert any(simulate(seed).violations for seed in range(WITHIN))


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in range(20):
        first, second = simulate(seed, keep_trace=True), simulate(seed, keep_trace=True)
        assert first == second
        assert first.trace


def test_other_seeds_give_other_traces() -> None:
    assert len({simulate(seed, keep_trace=True).digest for seed in range(20)}) == 20


def test_a_replay_in_another_process_is_the_same_to_the_byte() -> None:
    traces = [
        subprocess.run(
            [sys.executable, "-m", "simulation", "--seed", "5"],
            env={**os.environ, "PYTHONPATH": str(_TESTS), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert traces[0].decode().splitlines()[-1].endswith(simulate(5, keep_trace=True).digest)


def test_every_fault_happens() -> None:
    """A simulation in which nothing goes wrong proves nothing."""
    wanted = {
        "kill", "SIGTERM", "evict", "freeze", "outage", "clock", "limbo", "terminate", "revoked", "lost",
        "hold", "recover", "retrying", "fence_lost", "drain_too_slow", "claim_postponed", "not_flowing",
        "offset_not_at_broker", "conflicts", "dead_letters", "expire", "SKIP",
        "damage", "recreate", "ADOPT", "flood", "crash", "partition_stopped", "partition_suspected",
        "failover", "grow", "leaderless",
    }  # fmt: skip
    seen: set[str] = set()
    for seed in range(300):
        for line in simulate(seed, keep_trace=True).trace:
            seen.update(line.split()[1:3])
        if wanted <= seen:
            break
    assert wanted <= seen
