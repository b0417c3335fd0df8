"""How a replay's end is told."""

from penstock.replay.run import RunSummary
from penstock.replay.shown import sentence
from penstock_consumer.replay import ReplayEnd


def test_an_interrupted_run_says_what_it_leaves_open() -> None:
    stopped = RunSummary(run=3, end=ReplayEnd.STOPPED, expired=True)
    assert "calls the rest of an expired range missing" in sentence(stopped)
    assert "missing" not in sentence(RunSummary(run=3, end=ReplayEnd.STOPPED))
    assert "missing" not in sentence(RunSummary(run=3, end=ReplayEnd.FINISHED, expired=True))
