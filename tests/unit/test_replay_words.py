"""How a replay's end is told."""

from datetime import UTC, datetime

import pytest

from penstock.replay.plan import Asked, PartitionPlan, Plan
from penstock.replay.resolve import Log
from penstock.replay.run import RunSummary
from penstock.replay.shown import sentence, show_plan, show_runs
from penstock.replay.status import ReplayStatus
from penstock_consumer.replay import ReplayEnd
from penstock_store.ingest import PartitionRef
from penstock_store.ingest.segments import Kind, Segment


def test_an_interrupted_run_says_what_it_leaves_open() -> None:
    stopped = RunSummary(run=3, end=ReplayEnd.STOPPED, expired=True)
    assert "calls the rest of an expired range missing" in sentence(stopped)
    assert "missing" not in sentence(RunSummary(run=3, end=ReplayEnd.STOPPED))
    assert "missing" not in sentence(RunSummary(run=3, end=ReplayEnd.FINISHED, expired=True))


def test_a_run_that_had_nothing_left_is_finished_whole(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    counts = dict.fromkeys(("done", "stored", "duplicate", "conflict", "dead_lettered", "tombstone"), 0)
    run = ReplayStatus(
        id=1,
        group_id="penstock",
        asked="events start",
        owner_name="replay",
        message=None,
        started_at=at,
        seen_at=at,
        ended_at=at,
        records=9,
        reopened=0,
        state="finished",
        seconds=0.0,
        **counts,
    )
    show_runs([run])
    assert "100 %" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["40", "60", "120"])
def test_a_plan_on_a_narrow_terminal_leaves_out_columns_and_breaks_no_word(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    ref = PartitionRef("cluster", "events.of.shipping", "id", 3)
    segments = [Segment(0, 1_000_000, Kind.INGESTED), Segment(1_000_000, 2_000_000, Kind.MISSING)]
    log = Log(first=0, next=2_000_000, low=0, high=2_000_000)
    part = PartitionPlan(ref=ref, log=log, position=2_000_000, segments=segments, reopened=0)
    show_plan(Plan(asked=Asked(topics=("events.of.shipping",), group_id="g"), parts=[part]), as_json=False)
    head, row, said = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "events.of.shipping:3"
    assert max(len(head), len(row)) <= int(columns)
    assert "to read" in head
    assert "1,000,000" in row
    assert said.startswith("1,000,000 offsets to read")
