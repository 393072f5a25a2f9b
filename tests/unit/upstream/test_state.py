from __future__ import annotations

import json

import pytest

from modelyard.errors import FaultKind, UpstreamError
from modelyard.upstream import DeploymentState, DeploymentStates
from modelyard.upstream.breaker import BreakerRules
from modelyard.upstream.state import LONGEST_REST_S
from tests.unit.upstream.test_breaker import Clock

RULES = BreakerRules(consecutive=1, cool_down_s=2.0, jitter=0.0)


def fault(kind: FaultKind = "server", retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("It failed.", kind=kind, status=500, retryable=True, retry_after_s=retry_after_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> DeploymentState:
    return DeploymentState("gpt/eu", RULES, clock=clock)


def test_calls_in_flight_have_a_most(state: DeploymentState) -> None:
    token = state.enter()
    assert state.allows(2)
    state.enter()
    assert not state.allows(2)
    state.succeed(token, 10.0)
    assert (state.allows(2), state.in_flight) == (True, 1)


@pytest.mark.parametrize("kind", ["connect", "timeout", "server", "auth", "not_found", "garbage", "cut", "rate_limit"])
def test_faults_of_the_deployment_open_its_breaker(state: DeploymentState, kind: FaultKind) -> None:
    state.fail(state.enter(), fault(kind))
    assert (state.breaker.state, state.retry_after_s, state.in_flight) == ("open", 2.0, 0)


@pytest.mark.parametrize("kind", ["rejected", "context_length", "content_policy"])
def test_faults_of_the_caller_do_not(state: DeploymentState, kind: FaultKind) -> None:
    state.fail(state.enter(), fault(kind))
    assert (state.breaker.state, state.faults[kind]) == ("closed", 1)


def test_retry_after_is_a_rest_and_no_failure(state: DeploymentState, clock: Clock) -> None:
    state.fail(state.enter(), fault("rate_limit", 7.0))
    assert (state.breaker.state, state.allows(1), state.retry_after_s) == ("closed", False, 7.0)
    clock.now += 7.0
    assert state.allows(1)


def test_retry_after_in_another_century_is_a_long_rest(state: DeploymentState) -> None:
    state.fail(state.enter(), fault("rate_limit", 1e9))
    assert state.retry_after_s == LONGEST_REST_S


def test_cancelled_calls_count_for_nothing(state: DeploymentState) -> None:
    state.cancel(state.enter())
    assert (state.breaker.state, state.outcomes["cancelled"], state.in_flight, state.latency_ms) == (
        "closed",
        1,
        0,
        None,
    )


def test_latency_is_smoothed(state: DeploymentState) -> None:
    for ms in (100.0, 200.0):
        state.succeed(state.enter(), ms)
    assert state.latency_ms == pytest.approx(110.0)


def test_probe_that_fails_opens_and_probe_that_goes_well_closes_after_the_cool_down(
    state: DeploymentState, clock: Clock
) -> None:
    state.probed(fault("connect"))
    assert state.breaker.state == "open"
    state.probed(3.0)
    assert state.breaker.state == "open"
    clock.now += 2.0
    state.probed(3.0)
    assert state.breaker.state == "closed"


def test_probe_says_nothing_about_calls_that_are_refused(state: DeploymentState, clock: Clock) -> None:
    state.fail(state.enter(), fault("server"))
    clock.now += 2.0
    state.probed(3.0)
    assert state.breaker.state == "half_open"


def test_snapshot_is_json(state: DeploymentState) -> None:
    state.succeed(state.enter(), 100.0)
    state.fail(state.enter(), fault("cut"))
    state.probed(1.5)
    facts = json.loads(json.dumps(state.snapshot()))
    assert facts["calls"] == {"ok": 1, "failed": 1, "cancelled": 0}
    assert (facts["breaker"], facts["faults"], facts["last_error"]) == ("open", {"cut": 1}, "It failed.")
    assert facts["probe"]["ok"]


def test_states_are_made_on_demand_and_kept_while_calls_are_in_flight() -> None:
    states = DeploymentStates()
    states["a"].enter()
    states["b"].succeed(states["b"].enter(), 1.0)
    states["c"].snapshot()
    states.keep(frozenset({"c"}))
    assert set(states.snapshot()) == {"a", "c"}


def test_stream_that_began_is_trial_enough(state: DeploymentState, clock: Clock) -> None:
    state.fail(state.enter(), fault())
    clock.now += 2.0
    trial = state.enter()
    assert not state.allows(9)
    state.begin(trial)
    assert (state.breaker.state, state.allows(9)) == ("closed", True)
    state.fail(trial, fault("cut"))
    assert state.breaker.state == "open"


def test_latencies_of_answers_are_counted_by_upper_bound() -> None:
    state = DeploymentState("a")
    for ms in (25.0, 26.0, 200_000.0):
        state.succeed(state.enter(), ms)
    state.fail(state.enter(), UpstreamError("It failed.", kind="cut"))
    assert (state.latencies.counts[:2], state.latencies.counts[-1], sum(state.latencies.counts)) == ([1, 1], 1, 3)
    assert state.latencies.sum_s == pytest.approx(200.051)
