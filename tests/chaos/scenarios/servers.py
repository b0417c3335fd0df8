"""Kafka and PostgreSQL that crash, go away, or are slow."""

from __future__ import annotations

import asyncio
import time

from chaos.rig import Rig
from chaos.scenarios.scenario import Scenario

__all__ = ["SCENARIOS"]

_MEMORY_MIB = 100  # what a worker may grow by while PostgreSQL is away: two batches, and Kafka's prefetch
_OUR_BACKENDS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'penstock %'"
)
_SLOW = """
CREATE FUNCTION watch.slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.004); RETURN new; END $$;
CREATE TRIGGER slow BEFORE INSERT ON penstock.events FOR EACH ROW EXECUTE FUNCTION watch.slow();
"""


async def _kill_broker(rig: Rig, cycles: int) -> None:
    async with rig.load():
        await rig.ready(rig.start())
        for cycle in range(cycles):
            await rig.stored(1000 * (cycle + 1))
            await asyncio.to_thread(rig.broker.kill)
            await asyncio.to_thread(rig.broker.start)
            await rig.recovered(time.time())


async def _kill_postgres(rig: Rig, cycles: int) -> None:
    async with rig.load():
        await rig.ready(rig.start())
        for cycle in range(cycles):
            await rig.stored(1000 * (cycle + 1))
            await asyncio.to_thread(rig.server.kill)
            await asyncio.to_thread(rig.server.start)
            await rig.recovered(time.time())


async def _terminate_backends(rig: Rig, cycles: int) -> None:
    async with rig.load():
        await rig.ready(rig.start())
        for cycle in range(cycles):
            await rig.stored(200 * (cycle + 1))
            began = time.time()
            ended = await rig.fetchval(_OUR_BACKENDS)
            rig.notes["backends"] = rig.notes.get("backends", 0) + ended
            await rig.recovered(began)


async def _backpressure(rig: Rig, cycles: int) -> None:
    """PostgreSQL is stopped for `outage` seconds while events come as fast as one producer can send."""
    worker = await rig.ready(rig.start(batch=2000))
    members, grew = await asyncio.to_thread(rig.members), 0.0
    for cycle in range(cycles):
        async with rig.load(flat_out=True):
            await rig.stored(2000 * (cycle + 1))
            before = worker.resident_mib()
            await asyncio.to_thread(rig.server.stop)
            began = time.monotonic()
            while time.monotonic() < began + rig.site.outage:
                await asyncio.sleep(0.5)  # the outage's length is the case itself
                assert worker.running, f"the worker ended with {worker.returncode}: {worker.tail()}"
                grew = max(grew, worker.resident_mib() - before)
            _check_members(rig, members, await asyncio.to_thread(rig.members))
        await asyncio.to_thread(rig.server.start)
        await rig.recovered(time.time())
        await rig.settle()
    _check_members(rig, members, await asyncio.to_thread(rig.members))
    rig.notes |= {"outage_s": rig.site.outage, "grew_mib": round(grew), "bound_mib": _MEMORY_MIB}
    rig.notes["resident_mib"] = round(worker.resident_mib())
    if grew > _MEMORY_MIB:
        rig.faults.append(f"the worker grew by {grew:.0f} MiB while PostgreSQL was away")


async def _slow(rig: Rig, cycles: int) -> None:
    """A batch lasts longer than the session timeout, and nobody is evicted for it."""
    await rig.ask(lambda connection: connection.execute(_SLOW))
    await rig.ready(rig.start(batch=2500))
    members = await asyncio.to_thread(rig.members)
    for _ in range(cycles):
        await rig.emit(4000)
        await rig.settle()
    _check_members(rig, members, await asyncio.to_thread(rig.members))


def _check_members(rig: Rig, before: list[str], after: list[str]) -> None:
    if before != after:
        rig.faults.append(f"evicted from the group: its members were {before} and are {after}")


SCENARIOS = (
    Scenario(name="kill-broker", about="kill -9 of Kafka under load", cycles=3, attack=_kill_broker),
    Scenario(
        name="kill-postgres",
        about="immediate stop of PostgreSQL under load, recovery from its log",
        cycles=3,
        attack=_kill_postgres,
    ),
    Scenario(
        name="terminate-backends",
        about="pg_terminate_backend of every connection of the worker",
        cycles=10,
        attack=_terminate_backends,
    ),
    Scenario(
        name="backpressure",
        about="PostgreSQL stopped under full input: memory bounded, nobody evicted",
        cycles=1,
        attack=_backpressure,
    ),
    Scenario(name="slow-database", about="batches longer than the session timeout", cycles=1, attack=_slow),
)
