from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modelyard.catalog import BaseModel, Composite, Price
from modelyard.catalog.records import Deployment
from modelyard.errors import ContextTooLong, InvalidInput, UpstreamError
from modelyard.routing.router import Demand, ModelRouter
from modelyard.types import Candidate, Route
from modelyard.upstream import DeploymentStates
from modelyard.upstream.breaker import BreakerRules

ALL = frozenset({"tools", "json", "images"})


def deployed(
    name: str, *keys: str, capabilities: frozenset[Any] = ALL, window: int = 8192, **options: Any
) -> BaseModel:
    deployments = tuple(Deployment(f"{name}/{key}", name, "http://127.0.0.1:1/v1", **options) for key in keys)
    return BaseModel(
        name, "openai", Price(1.0, 1.0), context_window=window, deployments=deployments, capabilities=capabilities
    )


def spec(*candidates: str, **options: Any) -> Composite:
    return Composite("auto", "Some models.", candidates, candidates[0], **options)


def route(model: str, weight: float | None = None, /, **qualities: float | None) -> Route:
    candidates = tuple(Candidate(name, quality, 0.001) for name, quality in qualities.items())
    return Route(model, candidates, "learned", ("because",), cost_weight=weight)


def router(*models: BaseModel, states: DeploymentStates | None = None) -> ModelRouter:
    by_name: Mapping[str, BaseModel] = {model.name: model for model in models}
    return ModelRouter(by_name, states or DeploymentStates(), random_source=random.Random(7))


def names(order: Any) -> list[str]:
    return [model.name for model in order.models]


A, B, C, D = (deployed(name, "x") for name in "abcd")


def test_order_is_the_chosen_model_then_the_others_by_value_then_the_fallbacks() -> None:
    found = router(A, B, C, D).order(
        route("b", a=0.5, b=0.9, c=0.7), spec("a", "b", "c", fallbacks=("d", "a")), Demand()
    )
    assert names(found) == ["b", "c", "a", "d"]


def test_value_weighs_cost_as_the_policy_did() -> None:
    candidates = (Candidate("a", 0.9, 0.1), Candidate("b", 0.5, 0.001), Candidate("c", 0.4, 0.001))
    found = Route("b", candidates, "learned", (), cost_weight=10.0)
    assert names(router(A, B, C).order(found, spec("a", "b", "c"), Demand())) == ["b", "c", "a"]


def test_without_predictions_the_cheaper_one_comes_first() -> None:
    candidates = (Candidate("a", None, 0.3), Candidate("b", None, 0.2), Candidate("c", None, 0.1))
    found = Route("b", candidates, "static", ())
    assert names(router(A, B, C).order(found, spec("a", "b", "c"), Demand())) == ["b", "c", "a"]


def test_models_predicted_equal_share_the_load() -> None:
    states = DeploymentStates()
    chosen = route("a", a=0.90, b=0.89, c=0.80)
    balanced = router(A, B, C, states=states)
    margin = spec("a", "b", "c", equal_margin=0.02)
    assert names(balanced.order(chosen, margin, Demand())) == ["a", "b", "c"]
    states["a/x"].enter()
    assert names(balanced.order(chosen, margin, Demand())) == ["b", "a", "c"]
    assert names(balanced.order(chosen, spec("a", "b", "c"), Demand())) == ["a", "b", "c"]


def test_equal_score_at_many_times_the_cost_is_not_equal() -> None:
    states = DeploymentStates()
    states["a/x"].enter()
    chosen = Route("a", (Candidate("a", 0.9, 0.001), Candidate("b", 0.9, 0.1)), "learned", ())
    assert names(router(A, B, states=states).order(chosen, spec("a", "b", equal_margin=0.1), Demand())) == ["a", "b"]


def test_equals_that_cannot_be_called_take_no_load() -> None:
    states = DeploymentStates(BreakerRules(consecutive=1))
    states["a/x"].enter()
    states["b/x"].fail(states["b/x"].enter(), UpstreamError("It failed."))
    found = router(A, B, states=states).order(route("a", a=0.9, b=0.9), spec("a", "b", equal_margin=0.1), Demand())
    assert names(found) == ["a", "b"]


def test_models_that_lack_what_is_needed_are_left_out_and_named() -> None:
    blind, narrow = deployed("blind", "x", capabilities=frozenset()), deployed("narrow", "x", window=100)
    chosen = route("blind", blind=0.9, narrow=0.8, gone=0.7, a=0.1)
    demand = Demand(90, 20, frozenset({"images"}))
    found = router(A, blind, narrow).order(chosen, spec("blind", "narrow", "gone", "a"), demand)
    assert names(found) == ["a"]
    assert found.reasons == (
        "blind does not take images",
        "narrow has a context window of 100 tokens",
        "gone is not served",
    )


def test_need_that_nobody_meets_is_the_callers_fault() -> None:
    demand = Demand(needs=frozenset({"audio"}))
    with pytest.raises(InvalidInput, match=r"No model of 'auto' takes what the request needs: audio\."):
        router(A).order(route("a", a=0.9), spec("a"), demand)


def test_request_that_no_window_holds_is_too_long() -> None:
    with pytest.raises(ContextTooLong, match=r"about 8000 tokens and 500 more may be written, .* hold at most 8192"):
        router(A, B).order(route("a", a=0.9, b=0.8), spec("a", "b"), Demand(8000, 500))


def test_answer_longer_than_a_model_writes_goes_elsewhere_or_is_refused() -> None:
    short = replace(A, max_output_tokens=100)
    found = router(short, B).order(route("a", a=0.9, b=0.8), spec("a", "b"), Demand(10, 200))
    assert (names(found), found.reasons) == (["b"], ("a writes at most 100 tokens",))
    with pytest.raises(
        InvalidInput, match="wants up to 200 tokens, but the models of 'auto' write at most 100"
    ) as caught:
        router(short).order(route("a", a=0.9), spec("a"), Demand(10, 200))
    assert not isinstance(caught.value, ContextTooLong)


def test_composite_without_any_served_model_is_unavailable() -> None:
    with pytest.raises(UpstreamError, match="Every model of 'auto' is disabled") as caught:
        router().order(route("a", a=0.9), spec("a"), Demand())
    assert caught.value.kind == "unavailable"


def test_pick_takes_the_least_loaded_for_its_weight() -> None:
    states = DeploymentStates()
    light, heavy = (Deployment(f"m/{key}", "m", "http://h/v1", weight=w) for key, w in (("light", 1.0), ("heavy", 3.0)))
    model = BaseModel("m", "openai", Price(), deployments=(light, heavy))
    balanced, picks = router(model, states=states), Counter[str]()
    for _ in range(40):
        target = balanced.pick(model)
        assert target is not None
        target.state.enter()
        picks[target.deployment.name] += 1
    assert picks == {"m/light": 10, "m/heavy": 30}


def test_weights_are_chances_between_idle_deployments() -> None:
    light, heavy = (Deployment(f"m/{key}", "m", "http://h/v1", weight=w) for key, w in (("light", 1.0), ("heavy", 3.0)))
    model = BaseModel("m", "openai", Price(), deployments=(light, heavy))
    balanced = router(model)
    picks = Counter(target.deployment.name for _ in range(2000) if (target := balanced.pick(model)))
    assert 1350 < picks["m/heavy"] < 1650


def test_pick_leaves_out_what_is_disabled_full_open_resting_or_avoided() -> None:
    states = DeploymentStates(BreakerRules(consecutive=1))
    off = Deployment("m/off", "m", "http://h/v1", enabled=False)
    others = [
        Deployment(f"m/{key}", "m", "http://h/v1", max_concurrent=1)
        for key in ("full", "broken", "tired", "bad", "good")
    ]
    model = BaseModel("m", "openai", Price(), deployments=(off, *others))
    states["m/full"].enter()
    states["m/broken"].fail(states["m/broken"].enter(), UpstreamError("It failed."))
    tired = UpstreamError("Slow down.", kind="rate_limit", retryable=True, retry_after_s=30.0)
    states["m/tired"].fail(states["m/tired"].enter(), tired)
    balanced = router(model, states=states)
    target = balanced.pick(model, {"m/bad"})
    assert target is not None
    assert target.deployment.name == "m/good"
    target.state.enter()
    assert balanced.pick(model, {"m/bad"}) is None
    assert balanced.retry_after_s([model]) == pytest.approx(1.0)
    assert balanced.wait_s(model, {"m/bad"}) == pytest.approx(2.2, abs=0.3)


def test_local_models_are_their_own_deployment_without_limits() -> None:
    model = BaseModel("local", "local", Price(), method="sentence")
    states = DeploymentStates()
    for _ in range(1000):
        states["local"].enter()
    target = router(model, states=states).pick(model)
    assert target is not None
    assert (target.deployment.name, target.endpoint) == ("local", None)


def test_endpoint_carries_what_the_deployment_says() -> None:
    deployment = Deployment("m/eu", "m", "http://h/v1", "EU_KEY", "m-2024", timeout_s=7.0)
    model = BaseModel("m", "openai", Price(), upstream_model="m-other", deployments=(deployment,))
    target = router(model).pick(model)
    assert target is not None
    assert target.endpoint is not None
    assert (target.endpoint.model, target.endpoint.api_key_env, target.endpoint.timeout_s) == ("m-2024", "EU_KEY", 7.0)
