"""A writer of files that is killed: what it said was stored is there, and the next one may write at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from penstock_schemas import Event
from penstock_store.file import FileEventStore, FileSettings

_WRITER = """
import asyncio, sys
from penstock_schemas import Event
from penstock_store.file import FileEventStore, FileSettings

async def main(directory):
    async with FileEventStore(FileSettings(directory=directory, max_size=8192)) as store:
        number = 0
        while True:
            results = await store.append_batch(
                [Event(event_type="a", entity_id=f"e{n}", payload={"n": number}) for n in range(3)]
            )
            print(results[-1].sequence, flush=True)
            number += 1

asyncio.run(main(sys.argv[1]))
"""


def _killed_writer(directory: Path, batches: int) -> int:
    """The last sequence that it said was stored."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(batches)]
    finally:
        writer.kill()
        said, _ = writer.communicate(timeout=30)
    whole = said.splitlines() if said.endswith("\n") else said.splitlines()[:-1]
    return max([*acknowledged, *map(int, whole)])


@pytest.mark.parametrize("batches", [1, 20, 90])
async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, batches: int) -> None:
    acknowledged = await asyncio.to_thread(_killed_writer, tmp_path, batches)
    async with FileEventStore(FileSettings(directory=tmp_path)) as store:
        events = [event async for event in store.stream()]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert len(events) >= acknowledged
        assert len(events) % 3 == 0  # whole batches
        again = await store.append(Event(event_type="a", entity_id="e"))
        assert again.sequence == len(events) + 1
