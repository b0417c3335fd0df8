"""The whole matrix: what is measured in which order, and what becomes of it."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from benchmarks.alternatives import measure_alternatives
from benchmarks.events import Load
from benchmarks.history import fill, past, unpartitioned
from benchmarks.indexing import measure_indexes
from benchmarks.latency import measure_latency
from benchmarks.parts import measure_parts
from benchmarks.pipeline import Case, Round, measure_round, prepared
from benchmarks.producing import measure_emit
from benchmarks.queries import run as measure_queries
from benchmarks.reading import measure_stream
from benchmarks.results import machine
from benchmarks.servers import Servers, Topic

__all__ = ["GROUPS", "TARGETS", "Plan", "run_suite"]

Log = Callable[[str], None]

GROUPS = {
    "worker": "the worker beside the limit: full, lean, 1 % duplicates, two workers, metrics, 24 partitions",
    "parts": "consume, decode and write, one after the other",
    "emit": "emit() beside a bare librdkafka loop",
    "latency": "emit to readable and to a live subscriber",
    "stream": "stream() beside a bare asyncpg cursor",
    "queries": "p95 of the typical queries at 1 million events",
    "alternatives": "executemany, unnest, staging + ON CONFLICT beside the limit",
    "shapes": "payload sizes, event types, random keys, 50 % duplicates (only with --full)",
    "growth": "the worker behind 1 and 10 million stored events, partitioned or not (only with --full)",
    "growth_random": "the same with keys of chance (only with --full)",
    "queries_10m": "p95 of the typical queries at 10 million events (only with --full)",
    "indexes": "what each index costs on the way in, and built afterwards (only with --full)",
}
LONG = ("shapes", "growth", "growth_random", "queries_10m", "indexes")
TARGETS = {
    "worker_full": 0.90,
    "worker_full_dup1": 0.90,
    "worker_lean": 0.65,
    "window24": 0.90,
    "growth": 0.90,
    "emit_typed": 0.4,
    "emit_encoded": 0.8,
    "stream": 0.8,
}
_KINDS = {
    "rate": "events_per_s",
    "cpu": "cpu_s_per_million",
    "wal": "wal_bytes_per_event",
    "disk": "disk_bytes_per_event",
    "memory": "memory_mib",
}
_SCRAPED = ("--metrics-port", "19464")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of it."""

    events: int
    rounds: int
    groups: tuple[str, ...]


def run_suite(servers: Servers, plan: Plan, log: Log) -> dict[str, Any]:
    """Measure, and give what `results/latest.json` holds."""
    found: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "events": plan.events,
        "rounds": plan.rounds,
    }
    for group in ("ratios", *_KINDS.values()):
        found[group] = {}
    steps = {
        "worker": _workers,
        "parts": _parts,
        "emit": _emit,
        "latency": _latency,
        "stream": _stream,
        "queries": _queries,
        "alternatives": _alternatives,
        "shapes": _shapes,
        "growth": _growth,
        "growth_random": partial(_growth, random_keys=True),
        "queries_10m": partial(_queries, millions=10),
        "indexes": _indexes,
    }
    for group in plan.groups:
        log(f"{group}: {GROUPS[group]}")
        steps[group](servers, plan, log, found)
    return found


def _workers(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    with ExitStack() as topics:
        plain = topics.enter_context(servers.topic(Load(count=plan.events)))
        # Three times as fast: as much longer, or starting and ending would be a fifth of what is measured.
        longer = topics.enter_context(servers.topic(Load(count=3 * plan.events)))
        repeated = topics.enter_context(servers.topic(Load(count=plan.events, duplicates=0.01)))
        cases = {
            "worker_full": (plain, Case()),
            "worker_lean": (longer, Case(indexes="lean")),
            "worker_full_dup1": (repeated, Case()),
            "workers2_full": (plain, Case(workers=2)),
            "workers2_lean": (longer, Case(indexes="lean", workers=2)),
            "metrics_on": (plain, Case(arguments=_SCRAPED)),
            "window1": (plain, Case(before=past(1, 20_000))),
            "window24": (plain, Case(before=past(24, 20_000))),
        }
        rounds = _rounds(servers, plan, log, cases)
    _keep(found, rounds)
    ratios = found["ratios"]
    for name in ("worker_full", "worker_lean", "worker_full_dup1", "workers2_full", "workers2_lean"):
        ratios[name] = _median([each.ratio for each in rounds[name]])
    # Of one round each: what the machine did meanwhile is in both.
    for name, base in (("metrics_on", "worker_full"), ("window24", "window1")):
        ratios[name] = _beside(rounds[name], rounds[base])


def _shapes(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    loads = {
        "payload_2kb": Load(count=plan.events // 5, size="medium"),
        "payload_20kb": Load(count=plan.events // 40, size="large"),
        "types_1": Load(count=plan.events, types=1),
        "types_50": Load(count=plan.events, types=50),
        "random_keys": Load(count=plan.events, random_keys=True),
        "dup50": Load(count=plan.events, duplicates=0.5),
    }
    for name, load in loads.items():
        with servers.topic(load) as topic:
            cases = {f"{name}_{indexes}": (topic, Case(indexes=indexes)) for indexes in ("full", "lean")}
            rounds = _rounds(servers, plan, log, cases)
        _keep(found, rounds)
        found["ratios"] |= {case: _median([each.ratio for each in taken]) for case, taken in rounds.items()}


def _growth(
    servers: Servers, plan: Plan, log: Log, found: dict[str, Any], *, random_keys: bool = False
) -> None:
    """The same worker behind 1 and 10 million events in 24 closed partitions, and in its own one: an
    unpartitioned table. One round: to fill such a history takes minutes.
    """
    name = "growth_random" if random_keys else "growth"
    with servers.topic(Load(count=plan.events, random_keys=random_keys)) as topic:
        cases = {}
        for millions in (1, 10):
            rows = millions * 1_000_000
            split = past(24, rows // 24, random_keys=random_keys)
            whole = unpartitioned(rows, random_keys=random_keys)
            cases[f"{name}_{millions}m"] = (topic, Case(before=split))
            cases[f"{name}_unpartitioned_{millions}m"] = (topic, Case(before=whole))
        rounds = {}
        for case, each in cases.items():  # one such history at a time on the disk
            rounds |= _rounds(servers, replace(plan, rounds=1), log, {case: each})
    _keep(found, rounds)
    for case in (name, f"{name}_unpartitioned"):
        found["ratios"][case] = _beside(rounds[f"{case}_10m"], rounds[f"{case}_1m"])


def _parts(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    with servers.topic(Load(count=plan.events)) as topic:
        taken = _repeated(
            "parts", replace(plan, rounds=1), log, lambda: measure_parts(servers, topic, "lean")
        )
    for name, values in taken.items():
        part, _, kind = name.partition("_")
        group = "cpu_s_per_million" if kind else "events_per_s"
        found[group][f"part:{part}"] = _median(values)


def _indexes(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    taken = _repeated("indexes", plan, log, lambda: measure_indexes(servers, plan.events))
    found["index_cpu_us_per_event"] = {name: _median(each) for name, each in taken.items()}


def _emit(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    rates = _repeated("emit", plan, log, lambda: measure_emit(servers, min(plan.events, 60_000)))
    bare = rates.pop("bare")
    found["events_per_s"]["emit_bare"] = _median(bare)
    for name, each in rates.items():
        found["events_per_s"][name] = _median(each)
        found["ratios"][name] = _median([rate / limit for rate, limit in zip(each, bare, strict=True)])


def _latency(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    found["latency_ms"] = {}
    for rate in (100, 1_000, 10_000):
        taken = measure_latency(servers, rate, 6.0)
        log(f"latency at {rate}/s: {_said(taken)}")
        found["latency_ms"] |= {f"{name}_{rate}": value for name, value in taken.items() if name != "events"}


def _stream(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    with servers.database("full") as name:
        asyncio.run(fill(servers.admin(name), past(6, plan.events // 6)))
        taken = asyncio.run(measure_stream(servers.admin(name), plan.rounds))
    log(f"stream: {_said(taken)}")
    found["ratios"]["stream"] = taken["ratio"]
    found["events_per_s"] |= {"stream": taken["stream"], "cursor": taken["cursor"]}


def _queries(servers: Servers, plan: Plan, log: Log, found: dict[str, Any], *, millions: int = 1) -> None:
    name = "query_ms" if millions == 1 else f"query_ms_{millions}m"
    found[name] = measure_queries(servers, events=millions * 1_000_000)


def _alternatives(servers: Servers, plan: Plan, log: Log, found: dict[str, Any]) -> None:
    count = min(plan.events, 30_000)
    with servers.topic(Load(count=count)) as topic:
        for indexes in ("full", "lean"):
            with prepared(servers, case := Case(indexes=indexes)) as store:
                limit = measure_round(servers, topic, case, like=store).limit_rate
            rates = measure_alternatives(servers, count, indexes)
            log(f"alternatives, {indexes}: {_said(rates)}")
            found["ratios"] |= {f"{name}_{indexes}": round(rate / limit, 3) for name, rate in rates.items()}


def _repeated(
    group: str, plan: Plan, log: Log, measure: Callable[[], dict[str, float]]
) -> dict[str, list[float]]:
    """Each figure of each round."""
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(1, plan.rounds + 1):
        figures = measure()
        log(f"{group} {number}/{plan.rounds}: {_said(figures)}")
        for name, value in figures.items():
            taken[name].append(value)
    return taken


def _rounds(
    servers: Servers, plan: Plan, log: Log, cases: dict[str, tuple[Topic, Case]]
) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {name: [] for name in cases}
    with ExitStack() as made:
        stores: dict[Case, str] = {}  # what they begin with is made once, and copied
        for _, case in cases.values():
            if case.origin not in stores:
                stores[case.origin] = made.enter_context(prepared(servers, case))
        for number in range(1, plan.rounds + 1):
            for name, (topic, case) in cases.items():
                measure = partial(measure_round, servers, topic, case, like=stores[case.origin])
                try:
                    taken = measure()
                except RuntimeError as error:  # the machine stood still, a worker left its group: no figure
                    log(f"{name} {number}/{plan.rounds}: {error}; once more")
                    taken = measure()
                rounds[name].append(taken)
                log(
                    f"{name} {number}/{plan.rounds}: {taken.worker_rate:,.0f}/s,"
                    f" limit {taken.limit_rate:,.0f}/s, ratio {taken.ratio:.2f},"
                    f" worker CPU {taken.worker_cpu:.1f} s per million, {taken.worker_memory:.0f} MiB"
                )
    return rounds


def _keep(found: dict[str, Any], rounds: dict[str, list[Round]]) -> None:
    for name, taken in rounds.items():
        for field in fields(Round):
            who, _, kind = field.name.partition("_")
            found[_KINDS[kind]][f"{who}:{name}"] = _median([getattr(each, field.name) for each in taken])
        found["ratios"].setdefault(
            f"backend_cpu:{name}", _median([each.backend_cpu / each.limit_cpu for each in taken])
        )


def _beside(taken: list[Round], base: list[Round]) -> float:
    return _median([
        one.worker_rate / other.worker_rate for one, other in zip(taken, base, strict=True)
    ])  # fmt: skip


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 4)


def _said(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
