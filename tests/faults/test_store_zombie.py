"""Invariant 5: a worker that was stopped in the middle of COPY writes nothing once another one took over."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from fixtures.databases import Database
from fixtures.ingesting import SinkFactory, batch, event, ref, refuse
from penstock_store.ingest import Outcome

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]

_ROWS = 100_000


async def test_a_writer_stopped_in_mid_copy_is_put_out_and_stays_out(  # type: ignore[no-untyped-def]
    database: Database, make_sink: SinkFactory, admin: Admin, wait_for_async
) -> None:
    script = Path(__file__).with_name("stopped_writer.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, database.writer_url, str(_ROWS), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"writing\n"
        copying = (
            "SELECT tuples_processed BETWEEN 1 AND $1::bigint / 2 FROM pg_stat_progress_copy "
            "WHERE datname = current_database()"
        )
        await wait_for_async(lambda: admin.fetchval(copying, _ROWS), 30, "the COPY")
        process.send_signal(signal.SIGSTOP)
        heir = await make_sink(worker_name="heir")
        started = time.monotonic()
        claim = (await heir.claim([ref()]))[ref()]
        assert time.monotonic() - started < 5
        assert claim.position is None
        result = await heir.write(batch(claim, [event("key-0"), event("key-1")]), reject=refuse)
        assert result.total(Outcome.STORED) == 2
        assert await admin.fetchval("SELECT penstock.safe_sequence()") == result.last_sequence
        process.send_signal(signal.SIGCONT)
        said = await asyncio.wait_for(process.stdout.read(), 60)
        assert said.split() == [b"SinkUnavailable", b"FenceLost"]
        assert await admin.fetchval("SELECT count(*) FROM penstock.events") == 2
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
