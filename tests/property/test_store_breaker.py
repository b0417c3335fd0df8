"""The circuit breaker against its laws, under a clock of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock_store.breaker import CircuitBreaker, CircuitState

_STEPS = st.lists(
    st.one_of(st.sampled_from(["answered", "failed", "slow", "abandoned"]), st.floats(0, 12)), max_size=60
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _opened(clock: Clock, failures: int = 3) -> CircuitBreaker:
    breaker = CircuitBreaker(failures=failures, pause=1.0, seconds=clock)
    for _ in range(failures):
        call = object()
        assert breaker.admits(call)
        breaker.failed(call, "away")
    return breaker


def test_it_opens_after_failures_in_a_row_and_one_call_looks() -> None:
    clock = Clock()
    breaker = _opened(clock)
    assert (breaker.state, breaker.opened, breaker.retry_in) == (CircuitState.OPEN, 1, 1.0)
    assert not breaker.admits(object())
    clock.now = 1.0
    look = object()
    assert breaker.admits(look)
    assert breaker.state is CircuitState.HALF_OPEN
    assert not breaker.admits(object())
    breaker.answered()
    assert breaker.state is CircuitState.CLOSED
    assert breaker.opened == 1


def test_looks_that_fail_are_ever_rarer_up_to_a_bound() -> None:
    clock = Clock()
    breaker = _opened(clock)
    pauses = []
    for _ in range(6):
        clock.now += breaker.retry_in
        look = object()
        assert breaker.admits(look)
        breaker.failed(look, "still away")
        pauses.append(breaker.retry_in)
    assert pauses == [2, 4, 8, 10, 10, 10]
    assert (breaker.opened, breaker.cause) == (1, "still away")


def test_a_look_that_was_cancelled_leaves_the_next_one_free() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now = 1.0
    look = object()
    assert breaker.admits(look)
    breaker.abandoned(look)
    assert breaker.admits(object())


@given(_STEPS)
def test_it_never_blocks_a_server_that_answers_and_never_lets_two_look(steps: list[str | float]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=3, pause=1.0, seconds=clock)
    in_a_row = 0
    for step in steps:
        if isinstance(step, float):
            clock.now += step
            continue
        closed = breaker.state is CircuitState.CLOSED
        call = object()
        admitted = breaker.admits(call)
        assert admitted is (closed or breaker.retry_in == 0)
        if not admitted:
            continue
        assert closed or not breaker.admits(object())
        if step == "answered":
            breaker.answered()
            in_a_row = 0
        elif step == "failed":
            breaker.failed(call, "x")
            in_a_row += 1
        elif step == "slow":
            breaker.failed_trial(call, "x")
        breaker.abandoned(call)
        assert breaker.retry_in <= 10
        if closed:
            assert (breaker.state is CircuitState.CLOSED) is (in_a_row < 3)
        else:
            assert (breaker.state is CircuitState.CLOSED) is (step == "answered")
