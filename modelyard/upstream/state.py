"""What is known of each deployment: its breaker, its load, and how its calls ended."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from modelyard.errors import FaultKind, UpstreamError
from modelyard.upstream.breaker import BreakerRules, CircuitBreaker

SMOOTHING: Final = 0.1  # weight of the newest call in the mean latency
LONGEST_REST_S: Final = 600.0  # however far away an upstream's Retry-After is

# Upper bounds of latencies that are counted together; what took longer comes last.
BOUNDS_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

# Nothing was there to answer.
ABSENT: Final[frozenset[FaultKind]] = frozenset({"connect", "timeout"})

# The deployment did what it should; what failed was the request.
CALLERS: Final[frozenset[FaultKind]] = frozenset({"rejected", "context_length", "content_policy"})


class Latencies:
    """How long calls took that gave an answer: how many by `BOUNDS_S`, and all of them together in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one call."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class DeploymentState:
    """One deployment as its callers experience it; belongs to one event loop.

    Every call is one `enter` and one of `succeed`, `fail` and `cancel`, with the token that `enter` gave. `latency_ms` is an
    exponentially weighted mean.

    Args:
        name: The deployment's name.
        rules: When its breaker opens.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, name: str, rules: BreakerRules | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.breaker = CircuitBreaker(rules, clock=clock)
        self.in_flight = 0
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[FaultKind] = Counter()
        self.latency_ms: float | None = None
        self.latencies = Latencies()
        self.last_error: str | None = None
        self.last_error_at: datetime | None = None
        self.probe: dict[str, Any] | None = None
        self._clock = clock
        self._rests_until = 0.0
        self._last_fault: FaultKind | None = None

    def allows(self, most: int) -> bool:
        """Whether it may be called now, `most` calls at a time."""
        return self.in_flight < most and self.breaker.allows() and self._rests_until <= self._clock()

    @property
    def retry_after_s(self) -> float:
        """Seconds until its breaker and its own Retry-After let a call through; 0 where they do now."""
        return max(self.breaker.retry_after_s, self._rests_until - self._clock(), 0.0)

    def enter(self) -> int:
        """Say that a call begins, and return the token to end it with."""
        self.in_flight += 1
        return self.breaker.enter()

    def begin(self, token: int) -> None:
        """Say that a stream's first piece came: where the call is a breaker's trial, others need not wait for its end."""
        if self.breaker.state != "closed":
            self.breaker.succeed(token)

    def succeed(self, token: int, ms: float) -> None:
        """Say that a call gave an answer after that many milliseconds."""
        self._leave("ok")
        self.breaker.succeed(token)
        self.latencies.add(ms / 1000)
        self.latency_ms = ms if self.latency_ms is None else self.latency_ms + SMOOTHING * (ms - self.latency_ms)

    def fail(self, token: int, error: UpstreamError) -> None:
        """Say that a call failed. A refusal with Retry-After lets the deployment rest; what was the caller's fault counts as an answer."""
        self._leave("failed")
        self._note(error)
        if error.kind in CALLERS:
            self.breaker.succeed(token)
        elif error.kind == "rate_limit" and error.retry_after_s is not None:
            self._rests_until = max(self._rests_until, self._clock() + min(error.retry_after_s, LONGEST_REST_S))
            self.breaker.abandon(token)
        else:
            self.breaker.fail(token)

    def cancel(self, token: int) -> None:
        """Say that the caller gave a call up."""
        self._leave("cancelled")
        self.breaker.abandon(token)

    def probed(self, result: float | UpstreamError) -> None:
        """Say how an active probe ended: its milliseconds, or its error.

        A probe that fails counts like a call. One that goes well proves only that something listens: it closes a breaker whose cool-down
        is over where calls failed for want of that, and changes nothing else.
        """
        at = datetime.now(UTC).isoformat()
        if isinstance(result, UpstreamError):
            self.probe = {"ok": False, "at": at, "reason": str(result)}
            self._note(result)
            if self.breaker.allows():
                self.breaker.fail(self.breaker.enter())
        else:
            self.probe = {"ok": True, "at": at, "ms": result}
            if self.breaker.state == "half_open" and self.breaker.allows() and self._last_fault in ABSENT:
                self.breaker.succeed(self.breaker.enter())

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON-ready facts."""
        return {
            "name": self.name,
            "breaker": self.breaker.state,
            "retry_after_s": round(self.retry_after_s, 3),
            "in_flight": self.in_flight,
            "calls": {name: self.outcomes[name] for name in ("ok", "failed", "cancelled")},
            "faults": dict(self.faults),
            "latency_ms": self.latency_ms,
            "last_error": self.last_error,
            "last_error_at": self.last_error_at.isoformat() if self.last_error_at else None,
            "probe": self.probe,
        }

    def _leave(self, outcome: str) -> None:
        self.in_flight -= 1
        self.outcomes[outcome] += 1

    def _note(self, error: UpstreamError) -> None:
        self.faults[error.kind] += 1
        self._last_fault = error.kind
        self.last_error, self.last_error_at = str(error), datetime.now(UTC)


class DeploymentStates:
    """The states of all deployments by name, made on demand; they outlive a reload of the catalogue.

    Args:
        rules: When breakers open.
        clock: Seconds, monotonic.
    """

    def __init__(self, rules: BreakerRules | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules, self._clock = rules or BreakerRules(), clock
        self._states: dict[str, DeploymentState] = {}

    def __getitem__(self, name: str) -> DeploymentState:
        """Return the state of a deployment."""
        state = self._states.get(name)
        if state is None:  # several threads may load catalogues: the first one's state is everybody's
            state = self._states.setdefault(name, DeploymentState(name, self._rules, clock=self._clock))
        return state

    def __iter__(self) -> Iterator[DeploymentState]:
        """Go through all states."""
        return iter(list(self._states.values()))

    def keep(self, names: frozenset[str]) -> None:
        """Forget the states of other deployments, those with calls in flight excepted."""
        self._states = {name: state for name, state in self._states.items() if name in names or state.in_flight}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return every deployment's facts by name, JSON-ready."""
        return {state.name: state.snapshot() for state in self}
