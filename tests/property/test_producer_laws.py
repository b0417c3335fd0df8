"""Laws of the producer, whatever happens to deliveries: every event has one answer, and the books balance."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock_producer import BufferFull, Delivery, NotDelivered
from penstock_producer._headers import merge_headers
from penstock_producer.testing import InMemoryProducer
from penstock_schemas import Event

CAPACITY = 5
EVENT = Event(event_type="t", entity_id="e")

steps = st.lists(
    st.one_of(
        st.sampled_from(["emit", "emit", "emit", "hold", "release", "flush"]),
        st.integers(1, 3).map(lambda count: f"fail {count}"),
        st.integers(0, 30).map(lambda index: f"look {index}"),
    ),
    max_size=60,
)


class Run:
    """Carries steps out and keeps its own books."""

    def __init__(self) -> None:
        self.producer = InMemoryProducer(buffer_events=CAPACITY, on_full="raise", close_timeout=0)
        self.encoded = self.producer.encode(EVENT)
        self.deliveries: list[Delivery] = []
        self.answers: Counter[int] = Counter()
        self.seen: set[int] = set()

    def step(self, step: str) -> None:
        name, _, argument = step.partition(" ")
        getattr(self, name)(*([int(argument)] if argument else []))

    def emit(self) -> None:
        before = sum(not delivery.done() for delivery in self.deliveries)
        try:
            delivery = self.producer.emit(self.encoded)
        except BufferFull:
            assert before == CAPACITY
            return
        assert before < CAPACITY
        number = len(self.deliveries)
        self.deliveries.append(delivery)
        delivery.add_done_callback(lambda done: self.answers.update([number]))

    def hold(self) -> None:
        self.producer.hold()

    def release(self) -> None:
        self.producer.release()

    def fail(self, count: int) -> None:
        self.producer.fail(count)

    def look(self, index: int) -> None:
        if index < len(self.deliveries) and self.deliveries[index].done():
            self.deliveries[index].exception(0)
            self.seen.add(index)

    def flush(self) -> None:
        unseen = self.unseen()
        pending = sum(not delivery.done() for delivery in self.deliveries)
        lost = NotDelivered(failed=0, pending=0, waited=0, closing=False, first=None)
        try:
            self.producer.flush(0)
        except NotDelivered as error:
            lost = error
        assert (lost.failed, lost.pending) == (len(unseen), pending)
        self.seen |= unseen

    def unseen(self) -> set[int]:
        """Failed deliveries that nobody has looked at, without looking at them."""
        failed = {n for n in self.answers if self.deliveries[n]._partition == -1}
        return failed - self.seen


@given(steps)
def test_every_event_has_one_answer_and_the_books_balance(run_steps: list[str]) -> None:
    run = Run()
    for step in run_steps:
        run.step(step)
        stats = run.producer.stats
        assert stats.emitted == len(run.deliveries)
        assert stats.emitted == stats.delivered + stats.buffered + sum(stats.failed.values())
        assert stats.delivered == len(run.producer.events)
    run.producer.release()
    run.flush()
    run.producer.close()
    assert run.answers == Counter(range(len(run.deliveries)))
    offsets = [d.result(0).offset for d in run.deliveries if d.exception(0) is None]
    assert offsets == list(range(len(run.producer.events)))


names = st.text(min_size=1, max_size=5)


@given(st.dictionaries(names, st.one_of(st.text(), st.binary())), st.dictionaries(names, st.binary()))
def test_the_callers_headers_win_and_none_is_lost(
    given_headers: dict[str, str | bytes], trace: dict[str, bytes]
) -> None:
    merged = merge_headers(given_headers, list(trace.items())) or []
    as_bytes = {k: v.encode() if isinstance(v, str) else v for k, v in given_headers.items()}
    assert dict(merged) == {**trace, **as_bytes}
    assert len(merged) == len(trace.keys() | given_headers.keys())
