from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from modelyard.control.windows import SLOT_S, WINDOW_S, SlidingWindow

STEPS = st.lists(st.tuples(st.floats(0, 90), st.integers(0, 12)), max_size=60)


@dataclass
class Taken:
    at: float
    amount: int


@given(STEPS, st.integers(0, 20))
def test_no_sixty_seconds_see_more_than_the_limit(steps: list[tuple[float, int]], limit: int):
    window, now, taken = SlidingWindow(), 1_000.0, list[Taken]()
    for pause, amount in steps:
        now += pause
        if window.wait(amount, limit, now) == 0:
            window.take(amount, now)
            taken.append(Taken(now, amount))
    for first in taken:
        assert sum(one.amount for one in taken if first.at <= one.at < first.at + WINDOW_S) <= limit


@given(STEPS, st.integers(1, 20), st.integers(1, 20))
def test_whoever_waits_as_told_is_let_through(steps: list[tuple[float, int]], limit: int, amount: int):
    window, now = SlidingWindow(), 1_000.0
    for pause, taken in steps:
        now += pause
        if window.wait(taken, limit, now) == 0:
            window.take(taken, now)
    wait = window.wait(amount, limit, now)
    if amount > limit:
        assert wait == math.inf
    else:
        assert 0 <= wait <= WINDOW_S + SLOT_S
        assert window.wait(amount, limit, now + wait) == 0


@given(st.lists(st.tuples(st.floats(0, 90), st.integers(0, 50), st.integers(0, 50), st.floats(0, 90)), max_size=30))
def test_corrections_never_leave_less_than_nothing(calls: list[tuple[float, int, int, float]]):
    window, now = SlidingWindow(), 0.0
    for pause, reserved, actual, lasts in calls:
        now += pause
        slot = window.take(reserved, now)
        now += lasts
        window.correct(slot, reserved, actual, now)
        window.wait(0, 0, now)
        assert window.total >= 0
    window.wait(0, 0, now + 2 * WINDOW_S)
    assert window.total == 0
