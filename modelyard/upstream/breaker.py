"""A circuit breaker: a deployment that keeps failing is left alone for a while, and then tried with one call."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long; times in seconds.

    Attributes:
        consecutive: Failures in a row that open it.
        failure_rate: Share of failures within the window that opens it, of at least `least_calls` calls.
        least_calls: Fewer calls say nothing about a rate.
        window_s: How far back the rate looks.
        cool_down_s: First time that it stays open; doubles with each trial call that fails.
        cool_down_max_s: Longest time that it stays open.
        jitter: Share by which a cool-down may be longer, so that several servers do not come back at once.
    """

    consecutive: int = 5
    failure_rate: float = 0.5
    least_calls: int = 20
    window_s: float = 30.0
    cool_down_s: float = 2.0
    cool_down_max_s: float = 60.0
    jitter: float = 0.2


class CircuitBreaker:
    """Closed, it lets calls through; open, none; half open, one trial call that decides.

    Ask `allows`, then `enter` before the call and `succeed`, `fail` or `abandon` after it, with the token that `enter` gave.

    Args:
        rules: When it opens.
        clock: Seconds, monotonic.
        draw: A random number in 0..1.
    """

    def __init__(
        self,
        rules: BreakerRules | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._rules = rules or BreakerRules()
        self._clock, self._draw = clock, draw
        self._open_until: float | None = None
        self._trial = False
        self._opened = 0  # times in a row without a success between them
        self._epoch = 0  # changes whenever it opens: calls that began before then no longer count
        self._row = 0
        self._calls: deque[tuple[float, int, int]] = deque()  # (second, calls, failures)

    @property
    def state(self) -> BreakerState:
        """What it does now."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half_open"

    @property
    def retry_after_s(self) -> float:
        """Seconds until it lets a trial call through; 0 where it lets calls through now."""
        return 0.0 if self._open_until is None else max(self._open_until - self._clock(), 0.0)

    def allows(self) -> bool:
        """Whether a call may be made now."""
        return self._open_until is None or (not self._trial and self._clock() >= self._open_until)

    def enter(self) -> int:
        """Say that a call begins, the trial in the half-open state, and return the token to end it with."""
        if self._open_until is not None:
            self._trial = True
        return self._epoch

    def abandon(self, token: int) -> None:
        """Say that a call ended without telling anything about the deployment."""
        if token == self._epoch:
            self._trial = False

    def succeed(self, token: int) -> None:
        """Say that a call went well: a trial that does closes the breaker."""
        if token != self._epoch:
            return  # it began before the breaker opened
        self._row = 0
        if self._open_until is None:
            self._count(0)
        else:
            self._trial, self._open_until, self._opened = False, None, 0
            self._calls.clear()

    def fail(self, token: int) -> None:
        """Say that a call failed for a reason that lies with the deployment."""
        if token != self._epoch:
            return
        if self._open_until is not None:
            self._open()
            return
        self._row += 1
        self._count(1)
        if self._row >= self._rules.consecutive or self._rate() >= self._rules.failure_rate:
            self._open()

    def _open(self) -> None:
        rules = self._rules
        longest = min(rules.cool_down_s * 2.0 ** min(self._opened, 30), rules.cool_down_max_s)
        self._open_until = self._clock() + longest * (1.0 + rules.jitter * self._draw())
        self._opened += 1
        self._epoch += 1
        self._trial = False

    def _count(self, failures: int) -> None:
        second = float(int(self._clock()))
        calls = self._calls
        if calls and calls[-1][0] == second:
            _, n, k = calls.pop()
            calls.append((second, n + 1, k + failures))
        else:
            calls.append((second, 1, failures))
            while calls[0][0] < second - self._rules.window_s:
                calls.popleft()

    def _rate(self) -> float:
        since = self._clock() - self._rules.window_s
        recent = [(n, k) for second, n, k in self._calls if second >= since]
        n = sum(count for count, _ in recent)
        return sum(k for _, k in recent) / n if n >= self._rules.least_calls else 0.0
