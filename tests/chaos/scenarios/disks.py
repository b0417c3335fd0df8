"""Disks that are full: PostgreSQL's, and the file backend's."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from chaos.load import events
from chaos.result import Result
from chaos.rig import Rig, Site
from chaos.scenarios.scenario import Scenario
from fixtures.oracle import Findings
from penstock_schemas import Event
from penstock_store.file import FileEventStore, FileSettings
from penstock_store.store_errors import StoreError

__all__ = ["SCENARIOS"]

_SMALL, _LARGE = 24, 320  # MiB
_HOLD = 5.0  # seconds that the disk stays full once it was noticed
_BLOCK = 64 * 1024
_BATCH = 50


async def _postgresql(rig: Rig, cycles: int) -> None:
    """Where the log cannot grow PostgreSQL ends itself; it is started again once there is room."""
    disk = rig.site.disk
    assert disk, "this scenario needs a small disk"
    async with rig.load():
        worker = await rig.ready(rig.start())
        for cycle in range(cycles):
            await rig.stored(1000 * (cycle + 1))
            seen = len(worker.log.read_text())
            ballast = _fill(disk)
            await rig.until(lambda seen=seen: '"retrying"' in worker.log.read_text()[seen:], "the full disk")
            await asyncio.sleep(_HOLD)  # the fault's length is the case itself
            rig.notes["told_53100"] = "53100" in worker.log.read_text() or "No space left" in worker.tail(
                10**7
            )
            ballast.unlink()
            crashed = not rig.server.running
            rig.notes["server_ended"] = rig.notes.get("server_ended", 0) + crashed
            began = time.time()
            if crashed:
                await asyncio.to_thread(rig.server.kill)
                await asyncio.to_thread(rig.server.start)
            await rig.recovered(began)
    rig.notes["dead_lettered"] = await rig.fetchval(
        "SELECT sum(dead_lettered)::bigint FROM penstock.ingested"
    )


def _fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(_BLOCK))
        except OSError:
            return ballast


async def _files(site: Site, result: Result) -> None:
    """What was said to be stored is there once, in order; what was refused may be sent again."""
    assert site.disk, "this scenario needs a small disk"
    directory, source = site.disk / "events", events(seed=4)
    acknowledged: dict[str, Event] = {}
    waiting: list[Event] = []
    for _ in range(result.cycles):
        async with _open(directory) as store:
            ballast = None
            for number in range(200):
                waiting = waiting or [next(source) for _ in range(_BATCH)]
                try:
                    await store.append_batch(waiting)
                except StoreError as error:
                    result.notes["said"] = str(error)[:160]
                    break
                _note(acknowledged, waiting)
                if number == 20:
                    ballast = await asyncio.to_thread(_fill, site.disk)
            else:
                result.faults.append("the disk was full and no append failed")
        if ballast:
            ballast.unlink()
        began = time.monotonic()
        async with _open(directory) as store:
            await store.append_batch(waiting)
            result.recoveries.append(time.monotonic() - began)
            _note(acknowledged, waiting)
            result.findings = await _compare(store, acknowledged)


def _note(acknowledged: dict[str, Event], stored: list[Event]) -> None:
    for event in stored:
        acknowledged.setdefault(event.idempotency_key, event)
    stored.clear()


def _open(directory: Path) -> FileEventStore:
    return FileEventStore(FileSettings(directory=directory))


async def _compare(store: FileEventStore, acknowledged: dict[str, Event]) -> Findings:
    stored = [event async for event in store.stream()]
    keys = [event.idempotency_key for event in stored]
    wanted = [key for key in acknowledged if key in set(keys)]
    return Findings(
        events=len(acknowledged),
        lost=len(acknowledged.keys() - set(keys)),
        duplicated=len(keys) - len(set(keys)),
        unknown=len(set(keys) - acknowledged.keys()),
        altered=sum(
            event.payload != acknowledged[event.idempotency_key].payload
            or event.entity_id != acknowledged[event.idempotency_key].entity_id
            for event in stored
            if event.idempotency_key in acknowledged
        ),
        reordered=sum(one != other for one, other in zip(keys, wanted, strict=False)),
    )


SCENARIOS = (
    Scenario(
        name="full-disk",
        about=f"no room left on PostgreSQL's disk of {_LARGE} MiB (needs root)",
        cycles=2,
        attack=_postgresql,
        disk=_LARGE,
    ),
    Scenario(
        name="full-disk-files",
        about=f"no room left under the file backend, on a disk of {_SMALL} MiB (needs root)",
        cycles=3,
        files=_files,
        disk=_SMALL,
    ),
)
