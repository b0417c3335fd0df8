"""What a batch owes the dead-letter topic, and what it holds up meanwhile."""

from collections.abc import Sequence
from typing import Any

from fixtures.worker_fakes import Bench
from penstock_consumer.errors import DeadLettersUnavailable
from penstock_consumer.interfaces import DeadLetter
from penstock_store.ingest import Outcome, Rejection

REFUSED = Rejection(part=0, offset=1, outcome=Outcome.DEAD_LETTERED, reason="row_refused", message="23514")
CONFLICT = Rejection(part=0, offset=2, outcome=Outcome.CONFLICT, reason="key_conflict", message="other")


class Watched(Bench):
    """Knows how often dead letters were waited for with the transaction open."""

    def __init__(self) -> None:
        super().__init__()
        self.source.put(b"bad", b"k1", b"k2", b"k3")
        self.open = False
        self.held_up = 0
        self._write, self._send = self.sink.write, self.dead_letters.send
        self.sink.write = self.write  # type: ignore[method-assign]
        self.dead_letters.send = self.send  # type: ignore[method-assign]

    async def write(self, batch: Any, /, *, reject: Any) -> Any:
        self.sink.rejections, self.open = [REFUSED, CONFLICT], True
        try:
            return await self._write(batch, reject=reject)
        finally:
            self.open = False

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        self.held_up += self.open
        await self._send(letters)

    def sent(self) -> list[int]:
        return [letter.record.offset() for letter in self.dead_letters.letters]


async def test_a_dead_letter_topic_that_is_away_holds_up_one_transaction_only() -> None:
    """An open transaction holds up every reader, and the roll of the partition."""
    bench = Watched()
    first = bench.dead_letters.send

    async def then_fail(letters: Sequence[DeadLetter]) -> None:
        await first(letters)
        bench.dead_letters.failures.extend(DeadLettersUnavailable("no answer") for _ in range(5))
        bench.dead_letters.send = first  # type: ignore[method-assign]

    bench.dead_letters.send = then_fail  # type: ignore[method-assign]
    await bench.run(lambda: bench.position() == 4)
    assert bench.held_up == 1
    assert bench.sent() == [0, 1, 2]
    assert bench.metric("retries_total", operation="dead_letters") == 5
    assert bench.metric("dead_letters_total", topic="orders", reason="row_refused") == 1
