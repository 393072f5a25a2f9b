from __future__ import annotations

import pytest

from modelyard.upstream.breaker import BreakerRules, CircuitBreaker

RULES = BreakerRules(
    consecutive=3, least_calls=10, failure_rate=0.5, window_s=30.0, cool_down_s=2.0, cool_down_max_s=5.0
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(RULES, clock=clock, draw=lambda: 1.0)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.fail(breaker.enter())


def test_it_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert (breaker.state, breaker.allows(), breaker.retry_after_s) == ("closed", True, 0.0)
    fail(breaker)
    assert (breaker.state, breaker.allows()) == ("open", False)


def test_a_success_ends_the_row(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        fail(breaker, 2)
        breaker.succeed(breaker.enter())
        breaker.succeed(breaker.enter())
        breaker.succeed(breaker.enter())
    assert breaker.state == "closed"


def test_it_opens_at_a_rate_of_failures_within_the_window(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(4):
        breaker.succeed(breaker.enter())
        fail(breaker)
        clock.now += 1
    breaker.succeed(breaker.enter())
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_failures_before_the_window_are_forgotten(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(20):
        breaker.succeed(breaker.enter())
        fail(breaker)
        clock.now += 5
    assert breaker.state == "closed"


def test_cool_down_has_jitter_and_grows_up_to_its_most(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    waits = []
    for _ in range(4):
        waits.append(breaker.retry_after_s)
        clock.now += breaker.retry_after_s
        assert breaker.state == "half_open"
        fail(breaker)
    assert waits == pytest.approx([2.4, 4.8, 6.0, 6.0])


def test_half_open_lets_one_trial_through_and_closes_when_it_goes_well(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 2.4
    assert breaker.allows()
    trial = breaker.enter()
    assert not breaker.allows()
    breaker.succeed(trial)
    assert (breaker.state, breaker.allows()) == ("closed", True)
    fail(breaker, 3)
    assert breaker.retry_after_s == pytest.approx(2.4)


def test_trial_that_is_given_up_makes_way_for_another(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 2.4
    breaker.abandon(breaker.enter())
    assert breaker.allows()


@pytest.mark.parametrize("end", ["succeed", "fail", "abandon"])
def test_calls_from_before_it_opened_decide_nothing(breaker: CircuitBreaker, clock: Clock, end: str) -> None:
    old = breaker.enter()
    fail(breaker, 3)
    clock.now += 2.4
    breaker.enter()
    getattr(breaker, end)(old)
    assert (breaker.state, breaker.allows()) == ("half_open", False)
