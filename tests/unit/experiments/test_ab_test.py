from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from experiments.ab_test import Arm, Comparison, Plan, compare, compare_classifiers
from modelyard.errors import InvalidInput
from modelyard.registry.verdict import Verdict

N = 300
rng = np.random.default_rng(3)
BASE = rng.random(N)
DOMAINS = tuple("maths" if i % 3 else "chat" for i in range(N))
PLAN = Plan("router", "cheapest", ("learned",), 0.02, "5f3a", resamples=2000)


def compared(shift: float, noise: float, cost: float, plan: Plan = PLAN) -> Comparison:
    scores = BASE + shift + np.random.default_rng(4).normal(0, noise, N)
    costs = np.full(N, 0.01)
    return compare(
        [Arm("learned", scores, costs + cost, "3"), Arm("cheapest", BASE, costs)], plan=plan, domains=DOMAINS
    )


@pytest.mark.parametrize(
    ("shift", "noise", "cost", "outcome"),
    [
        (0.1, 0.1, 0.005, "better"),
        (-0.005, 0.03, -0.001, "not worse and cheaper"),
        (-0.005, 0.01, 0.0, "worse"),
        (-0.1, 0.1, -0.005, "worse"),
        (-0.05, 1.0, -0.005, "inconclusive"),
        (0.0, 0.0, 0.0, "inconclusive"),
        (0.0, 0.0, -0.001, "not worse and cheaper"),
    ],
)
def test_outcome_of_arms_made_to_have_it(shift: float, noise: float, cost: float, outcome: str) -> None:
    assert compared(shift, noise, cost).results[0].outcome == outcome


def test_verdict_carries_what_the_gate_reads() -> None:
    verdict = compared(0.1, 0.1, 0.0).verdict("learned", "run-1")
    assert (verdict.component, verdict.challenger, verdict.challenger_version) == ("router", "learned", "3")
    assert (verdict.against, verdict.against_version) == ("cheapest", None)
    assert (verdict.n, verdict.margin, verdict.data, verdict.run_id) == (N, 0.02, "5f3a", "run-1")
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_verdict_of_an_arm_that_was_not_compared_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No challenger 'rules' was compared; there are learned"):
        compared(0.1, 0.1, 0.0).verdict("rules")


def test_plan_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAN.margin = 0.5  # type: ignore[misc]


def test_every_field_of_the_plan_counts_in_its_hash() -> None:
    others = [
        replace(PLAN, component="classifier"),
        replace(PLAN, baseline="rules"),
        replace(PLAN, challengers=("learned", "rules")),
        replace(PLAN, margin=0.03),
        replace(PLAN, data="5f3b"),
        replace(PLAN, rows="test"),
        replace(PLAN, metric="accuracy"),
        replace(PLAN, seed=1),
        replace(PLAN, resamples=3000),
    ]
    assert len({PLAN.sha256, *(plan.sha256 for plan in others)}) == 1 + len(others)
    assert replace(PLAN).sha256 == PLAN.sha256


@pytest.mark.parametrize("margin", [0.0, -0.02, float("nan")])
def test_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(InvalidInput, match="margin of a comparison must be a positive number"):
        replace(PLAN, margin=margin)


@pytest.mark.parametrize("challengers", [(), ("cheapest",), ("a", "a")])
def test_arms_need_names_of_their_own(challengers: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="two or more arms of different names"):
        replace(PLAN, challengers=challengers)


def test_arms_must_be_the_plans() -> None:
    arm = Arm("cheapest", BASE, BASE)
    with pytest.raises(InvalidInput, match="compares cheapest, learned, but the arms are cheapest, rules"):
        compare([arm, replace(arm, name="rules")], plan=PLAN, domains=DOMAINS)


def test_arms_must_answer_the_same_prompts() -> None:
    arms = [Arm("cheapest", BASE, BASE), Arm("learned", BASE[1:], BASE[1:])]
    with pytest.raises(InvalidInput, match="same length"):
        compare(arms, plan=PLAN, domains=DOMAINS)


def test_one_prompt_is_too_few() -> None:
    arms = [Arm(name, BASE[:1], BASE[:1]) for name in ("cheapest", "learned")]
    with pytest.raises(InvalidInput, match="at least two prompts, but there are 1"):
        compare(arms, plan=PLAN, domains=DOMAINS[:1])


def test_report_has_estimates_overall_and_by_domain() -> None:
    report = compared(0.1, 0.1, 0.0).to_json("ab-test", "run-1")
    found = report["results"]["challengers"]["learned"]
    low, high = found["score_difference"]["ci95"]
    assert low < found["score_difference"]["value"] < high
    assert found["score_difference_t"]["ci95"] == pytest.approx([low, high], abs=0.003)
    assert {name: domain["n"] for name, domain in found["domains"].items()} == {"chat": 100, "maths": 200}
    assert report["plan"]["sha256"] == PLAN.sha256
    assert (report["schema"], report["command"], report["seed"], report["n"]) == (1, "ab-test", 0, N)
    assert report["results"]["arms"]["cheapest"]["score"] == pytest.approx(BASE.mean())


def test_classifiers_are_compared_by_being_right() -> None:
    right = (rng.random(N) < 0.6).astype(int)
    better = np.maximum(right, rng.random(N) < 0.4)
    plan = replace(PLAN, component="classifier", metric="accuracy")
    found = compare_classifiers(
        {"cheapest": right, "learned": better}, plan=plan, domains=DOMAINS, versions={"learned": "7"}
    )
    verdict = found.verdict("learned")
    assert (verdict.outcome, verdict.challenger_version, verdict.metric) == ("better", "7", "accuracy")
    assert verdict.cost.to_json() == {"value": 0.0, "ci95": [0.0, 0.0]}
