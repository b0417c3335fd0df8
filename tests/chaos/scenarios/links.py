"""Networks that cut, stall, drip, lose everything, or lose the answer to a COMMIT."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from chaos.rig import SESSION_TIMEOUT, Rig
from chaos.scenarios.scenario import Scenario
from fixtures.tcp_proxy import TcpProxy
from fixtures.workers import WorkerProcess

__all__ = ["SCENARIOS"]

_MODES = ("cut", "stall", "drip", "blackhole")
_DEADLINES = {"write_timeout": 4.0, "call_timeout": 4.0}
_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'penstock %'"
)
_EACH = 2  # connections of one worker: batches, and claims
_LATE = 1.0  # seconds after its deadline in which a call has to return


async def _database_link(rig: Rig, cycles: int) -> None:
    """The worker's deadlines are 4 s here (120 s by default), and each fault lasts longer."""
    with rig.database_link() as (link, url):
        async with rig.load():
            worker = await rig.ready(rig.start(database=url, sink=_DEADLINES))
            for number in range(cycles):
                mode = (*_MODES, "lost answer")[number % (len(_MODES) + 1)]
                await rig.stored(500 * (number + 1))
                if mode == "lost answer":
                    link.swallow_answer_to(b"COMMIT")
                    await rig.until(link.swallowed.is_set, "a COMMIT")
                else:
                    await _for_a_while(rig, link, mode)
                began = time.time()
                await rig.recovered(began)
                rig.notes[mode] = rig.notes.get(mode, 0) + 1
        await rig.settle()
        await _check_leaks(rig, worker, link)
        await rig.end(worker)


async def _check_leaks(rig: Rig, worker: WorkerProcess, link: TcpProxy) -> None:
    async def few() -> bool:
        return bool((await rig.fetchval(_BACKENDS) or 0) <= _EACH)

    try:
        await rig.until(few, "the connections that were given up to end", 30)
    except AssertionError:
        rig.faults.append(f"{await rig.fetchval(_BACKENDS)} connections to PostgreSQL are left open")
    if (held := _sockets(worker, link.port)) > _EACH:
        rig.faults.append(f"the worker holds {held} sockets to PostgreSQL")
    rig.notes["latest_call_s"] = rig.latest_call()
    if rig.latest_call() > _LATE:
        rig.faults.append(f"a call returned {rig.latest_call()} s after its deadline")


async def _kafka_link(rig: Rig, cycles: int) -> None:
    """Each fault outlasts the session timeout, so that the worker is evicted and does not know."""
    link = rig.broker.link
    async with rig.load():
        worker = await rig.ready(rig.start(kafka=f"127.0.0.1:{link.port}"))
        for number in range(cycles):
            mode = _MODES[number % len(_MODES)]
            await rig.stored(500 * (number + 1))
            await _for_a_while(rig, link, mode)
            await rig.recovered(time.time())
            rig.notes[mode] = rig.notes.get(mode, 0) + 1
    await rig.settle()
    await rig.end(worker)


async def _for_a_while(rig: Rig, link: TcpProxy, mode: str) -> None:
    getattr(link, mode)()
    await asyncio.sleep(SESSION_TIMEOUT + 3)  # the fault's length is the case itself
    link.heal()


def _sockets(worker: WorkerProcess, port: int) -> int:
    """How many of the process's sockets lead to a port, in whatever state."""
    process = Path(f"/proc/{worker.pid}")
    lines = [line.split() for line in (process / "net/tcp").read_text().splitlines()[1:]]
    wanted = {f"socket:[{line[9]}]" for line in lines if int(line[2].split(":")[1], 16) == port}
    return sum(str(entry.readlink()) in wanted for entry in (process / "fd").iterdir())


SCENARIOS = (
    Scenario(
        name="database-link",
        about=f"the way to PostgreSQL: {', '.join(_MODES)}, lost answer to a COMMIT, in turn",
        cycles=5,
        attack=_database_link,
    ),
    Scenario(
        name="kafka-link",
        about=f"the way to Kafka: {', '.join(_MODES)}, in turn",
        cycles=4,
        attack=_kafka_link,
    ),
)
