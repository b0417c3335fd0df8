"""A process that writes one long batch: test_store_zombie.py stops it in the middle and lets it go on."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence

from penstock_schemas.fields import EventFields
from penstock_store.errors import SinkError
from penstock_store.ingest import Batch, BatchPart, PartitionRef, PostgresSink, Rejection, SinkSettings


def _event(number: int) -> EventFields:
    name = f"key-{number}"
    return EventFields(
        uuid.uuid4().bytes, "stopped", 0, None, None, name, "default", name, None, 1, name,
        bytes(16), b'"x"', b"{}",
    )  # fmt: skip


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def _refuse(rejections: Sequence[Rejection]) -> None:
    raise AssertionError(rejections)


async def main(dsn: str, rows: int) -> None:
    sink = PostgresSink(SinkSettings(dsn=dsn, group_id="group", worker_name="stopped", chunk_rows=200))
    await sink.open()
    ref = PartitionRef("cluster", "orders", "t-1", 0)
    claim = (await sink.claim([ref]))[ref]
    batch = Batch([BatchPart(claim=claim, expected=None, first_offset=0, next_offset=rows)])
    for number in range(rows):
        batch.add(0, number, _event(number))
    _say("writing")
    try:
        await sink.write(batch, reject=_refuse)
        _say("stored")
    except SinkError as error:
        _say(type(error).__name__)
    try:
        await sink.write(batch, reject=_refuse)
        _say("stored")
    except SinkError as error:
        _say(type(error).__name__)
    await sink.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
