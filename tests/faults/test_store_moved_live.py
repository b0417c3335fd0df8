"""A store moves while it is written to, and the copy is killed on the way, as documented."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from pathlib import Path

import pytest

from fixtures.databases import Database
from fixtures.processes import RunPenstock, StartPenstock
from fixtures.waiting import wait_for_async
from penstock_schemas import Event
from penstock_store.backends import create_event_store
from penstock_store.contract import QueryOptions
from penstock_store.moving import MirroredStore, compare_stores
from penstock_store.store_contract import EventStore

_HISTORY = 6_000
_NEWEST = QueryOptions(descending=True, limit=1)


def _event(number: int) -> Event:
    return Event(
        event_type="a", entity_id=f"e{number % 7}", idempotency_key=f"k{number}", payload={"n": number}
    )


async def _held(store: EventStore) -> int:
    page = await store.get_events(_NEWEST)
    return page.events[0].sequence if page.events else 0


@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_written_all_the_time_copied_with_an_interruption_and_switched(
    end: str, tmp_path: Path, database: Database, start_penstock: StartPenstock, run_penstock: RunPenstock
) -> None:
    folder = tmp_path / "old"
    old = create_event_store("file", directory=folder)
    new = create_event_store("postgresql", dsn=database.writer_url)
    async with old:
        numbers = count()
        for _ in range(_HISTORY // 1_000):
            await old.append_batch([_event(next(numbers)) for _ in range(1_000)])
        command = ("store", "copy", "--from", f"file:{folder}", "--to", database.writer_url)
        # 1. Write to both: the new store is far behind, and left to the copy.
        async with MirroredStore(old, new, most_behind=2_000, poll_interval=0.05) as store:
            over = asyncio.Event()

            async def write() -> None:
                while not over.is_set():
                    assert (await store.append(_event(next(numbers)))).stored

            writers = [asyncio.create_task(write()) for _ in range(3)]
            # 2. Copy; it is ended in the middle of a batch, and begun again.
            copy = start_penstock({}, *command, "--batch-size", "100")
            await wait_for_async(lambda: _some(new, copy.output), deadline=60)
            if end == "kill":
                copy.kill()
            else:
                assert await asyncio.to_thread(copy.terminate) == 130, copy.output()
                assert "the same command goes on" in copy.output()
            held = await _held(new)
            assert 0 < held < _HISTORY
            # Ends less than a batch behind, well within what the mirror takes over.
            rest = (*command, "--batch-size", "500", "--verify", "--json")
            again = await asyncio.to_thread(run_penstock, {}, *rest, deadline=100)
            assert again.returncode == 0, again.stderr
            said = json.loads(again.stdout)
            assert said["comparison"]["complete"]
            assert said["copied"]["start"] >= held
            # 3. The mirror keeps it level from now on.
            await wait_for_async(lambda: store.mirror_status().level, deadline=60)
            # 4. Verify, and switch, while they write.
            assert (await compare_stores(old, new)).complete
            await store.switch(timeout=30)
            switched_at = await _held(old)
            await wait_for_async(lambda: _beyond(new, switched_at), deadline=30)
            over.set()
            await asyncio.gather(*writers)
            assert await _held(old) == switched_at
            both = await compare_stores(old, new)
            assert both.complete
            assert both.missing == 0
    # From now on in one line.
    async with create_event_store("postgresql", dsn=database.writer_url) as store:
        events = [event async for event in store.stream()]
    assert sorted(event.payload["n"] for event in events) == list(range(next(numbers)))  # type: ignore[type-var]
    kept = events[:switched_at]
    assert [event.sequence for event in kept] == list(range(1, switched_at + 1))
    async with create_event_store("file", directory=folder, read_only=True) as files:
        assert [event async for event in files.stream()] == kept


async def _some(store: EventStore, output: object) -> bool:
    return await _held(store) >= 200


async def _beyond(store: EventStore, sequence: int) -> bool:
    return await _held(store) > sequence
