"""Reading topics again: the worker's engine over what the books lack, beside a worker that goes on."""

from penstock_consumer.replay.run import ReplayEnd, ReplayOptions, run_replay

__all__ = ["ReplayEnd", "ReplayOptions", "run_replay"]
