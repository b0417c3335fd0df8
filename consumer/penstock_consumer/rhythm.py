"""When to fetch how much, and when a batch goes: pure arithmetic over `BatchLimits`."""

from penstock_consumer.batching import PendingBatch
from penstock_consumer.settings import BatchLimits

__all__ = ["Rhythm"]

_IDLE = 0.5  # seconds of waiting for a first record: bounds how late a stop or a failed write is noticed


class Rhythm:
    """A quiet topic is written after `linger`, a full stream in big batches: more waits in Kafka anyway. They
    grow by doubling, so that PostgreSQL does not wait for the first big one to be decoded.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._mean = 32 * 1024.0  # bytes a record, learnt from what came; at first little is asked for
        self._enough = limits.fetch  # records that an idle writer takes although more waits

    def is_full(self, batch: PendingBatch) -> bool:
        """Nothing more may be added."""
        return batch.records >= self._limits.records or batch.nbytes >= self._limits.bytes

    def chunk(self, batch: PendingBatch) -> int:
        """How many records to fetch next, at least one: as many as the batch has room for by count and, at
        the size of those before, by bytes.
        """
        if batch.records:
            self._mean = max(1.0, batch.nbytes / batch.records)
        room = min(self._limits.records - batch.records, (self._limits.bytes - batch.nbytes) / self._mean)
        return max(1, min(self._limits.fetch, int(room)))

    def patience(self, batch: PendingBatch, *, due: bool) -> float:
        """Seconds to wait for a first record. `due`: the batch waits for the writer, not for company."""
        return _IDLE if due or not batch.records else 0.0

    def is_due(self, batch: PendingBatch, now: float, *, caught_up: bool) -> bool:
        """Whether an idle writer should take the batch. `caught_up`: the last fetch brought less than was
        asked for, though it waited `linger` for more.
        """
        if caught_up:
            self._enough = self._limits.fetch
        if not batch.records:
            return False
        if caught_up or batch.records >= self._enough or self.is_full(batch):
            return True
        return now - batch.opened >= self._limits.age

    def taken(self) -> None:
        """The writer took a batch: while it writes, the next one has time to grow."""
        self._enough = min(2 * self._enough, self._limits.records)
