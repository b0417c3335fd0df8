"""What the liveness and readiness probes ask: one object that the engine writes and another thread reads."""

from collections.abc import Callable

__all__ = ["WorkerHealth"]


class WorkerHealth:
    """Live: the engine's loop goes round. Ready: the group gave us our partitions and PostgreSQL takes
    batches.
    """

    def __init__(self, monotonic: Callable[[], float], *, stuck_after: float = 60.0) -> None:
        self._monotonic = monotonic
        self._stuck_after = stuck_after
        self._beat = monotonic()
        self.joined = False
        """Whether the group has answered; a worker beyond the number of partitions is ready with none."""
        self.database_up = False
        self.registry_up = True
        self.dead_letters_up = True
        self.stopped: tuple[str, ...] = ()
        """Partitions, as topic:partition, that wait for an operator."""

    def beat(self) -> None:
        """The loop went round once more."""
        self._beat = self._monotonic()

    def live(self) -> str | None:
        """None, or what is wrong: a restart may help."""
        silent = self._monotonic() - self._beat
        return (
            f"the worker's loop has not gone round for {silent:.0f} s" if silent > self._stuck_after else None
        )

    def ready(self) -> str | None:
        """None, or what is wrong: a restart would not help."""
        if not self.joined:
            return "the consumer group has not assigned partitions yet"
        if not self.database_up:
            return "PostgreSQL does not take batches"
        if not self.registry_up:
            return "the schema registry does not answer"
        if not self.dead_letters_up:
            return "the dead-letter topic takes no records, so batches with bad ones wait"
        if self.stopped:
            return f"waiting for an operator, the log says why: {', '.join(self.stopped)}"
        return None
