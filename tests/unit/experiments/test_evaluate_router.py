from __future__ import annotations

import numpy as np
import pytest

from experiments.evaluate_router import Evaluation, evaluate, expected_costs, time_decisions
from modelyard.catalog import Price
from modelyard.errors import InvalidInput
from modelyard.outcomes import OutcomeMatrix
from tests.unit.routing.toy import router

PRICES = {"small": Price(request=1.0), "big": Price(request=3.0)}


def matrix(scores: list[list[float]], *, chars: float = float("nan"), prompt: str = "abcd") -> OutcomeMatrix:
    values = np.array(scores)
    n, m = values.shape
    names = ("small", "big", "huge")[:m]
    return OutcomeMatrix(
        tuple(f"p{i}" for i in range(n)),
        (prompt,) * n,
        ("chat",) * n,
        names,
        values,
        np.full((n, m), np.nan),
        np.full((n, m), chars),
    )


# The small model is right about the first two prompts, the big one about the last three: means 0.5 and 0.75.
OUTCOMES = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation.of(matrix(OUTCOMES), PRICES, {}, np.array([10.0, 10.0]), seed=0)


def values(found: dict) -> dict[str, float | None]:
    return {name: estimate["value"] for name, estimate in found.items()}


def test_perfect_predictions_reach_what_can_be_reached(evaluation: Evaluation) -> None:
    found = values(evaluation.judge(np.array(OUTCOMES)))
    # Gains −1, 0, 1, 1 in order of preference: PGR 0, 1, 2, 2, 1 → ¼ (0.5 + 1.5 + 2 + 1.5).
    assert found["apgr"] == pytest.approx(5.5 / 4)
    assert (found["cpt50"], found["cpt80"]) == (0.25, 0.25)
    # Small for two prompts and big for two scores 1 at cost 2: from (1, 0.5) to (2, 1), then flat: (0.75 + 1) / 2.
    assert found["aiq"] == pytest.approx(0.875)
    # 0.7125 is 0.425 of the way from cost 1 to 2.
    assert found["saving_95"] == pytest.approx(1 - 1.425 / 3)


def test_random_router_recovers_the_share_that_it_sends(evaluation: Evaluation) -> None:
    found = evaluation.random()
    assert found["apgr"] == {"value": 0.5, "ci95": [0.5, 0.5]}
    assert (found["cpt50"]["value"], found["cpt80"]["value"]) == (0.5, 0.8)
    assert found["aiq"]["value"] == pytest.approx(0.625)  # (0.5 + 0.75) / 2
    # 0.7125 is 0.85 of the way from 0.5 to 0.75: cost 2.7.
    assert found["saving_95"]["value"] == pytest.approx(0.1)


def test_zero_router_is_the_hull_of_the_single_models() -> None:
    three = matrix([[0.2, 0.6, 0.7], [0.2, 0.6, 0.7]])
    prices = {**PRICES, "huge": Price(request=5.0)}
    evaluation = Evaluation.of(three, prices, {}, np.full(3, 10.0), seed=0)
    assert set(evaluation.zero_router()) == {"aiq", "saving_95", "saving_99"}  # gains are defined for two models
    assert evaluation.zero_router()["aiq"]["value"] == pytest.approx((0.8 + 1.3) / 4)  # areas 2 · 0.4 and 2 · 0.65
    assert evaluation.random()["aiq"]["value"] == pytest.approx(0.45)  # mixes cheapest and dearest only


def test_router_is_held_against_the_zero_router_in_every_resample(evaluation: Evaluation) -> None:
    found = evaluation.over_zero(np.array(OUTCOMES))
    assert found["value"] == pytest.approx(0.875 - 0.625)
    assert found["ci95"][0] >= 0.0  # perfect predictions lose in no resample


def test_single_model_is_one_point(evaluation: Evaluation) -> None:
    found = evaluation.best_single()
    assert found["score"]["value"] == 0.75
    assert found["saving_95"]["value"] == pytest.approx(0.0)
    assert found["aiq"] == {"value": None, "reason": "a single model (big) is one point, not a trade-off"}
    assert found["apgr"]["value"] is None


def test_expected_costs_by_hand() -> None:
    # 4 characters are one token; 2 USD per million of them, 3 of the answer's, 0.5 a call.
    prices = {"small": Price(2.0, 3.0, 0.5), "big": Price(0.0, 10.0, 0.0)}
    found = expected_costs(matrix(OUTCOMES), prices, np.tile([100.0, 200.0], (4, 1)))
    assert found.shape == (4, 2)
    assert found[0] == pytest.approx([0.5 + (2 * 1 + 3 * 100) / 1e6, 10 * 200 / 1e6])


def test_time_of_a_decision_is_measured() -> None:
    found = time_decisions(router(), ["centre a div", "why?"], dict.fromkeys(("cheap", "middle", "dear"), Price()))
    assert 0 < found["p50"] <= found["p99"]


def test_whole_evaluation_has_the_promised_entries() -> None:
    rng = np.random.default_rng(0)
    hard = np.arange(60) % 2 == 1
    base = matrix(np.column_stack([np.where(hard, 0.1, 0.9), np.full(60, 0.8)]).tolist())
    prompts = tuple(f"{'prove theorem' if h else 'centre box'} {i}" for i, h in enumerate(hard))
    noisy = np.clip(base.scores + rng.normal(0, 0.05, base.scores.shape), 0, 1)
    table = OutcomeMatrix(
        base.prompt_ids,
        prompts,
        tuple(np.where(hard, "maths", "css")),
        base.models,
        noisy,
        base.costs_usd,
        base.costs_usd,
    )
    from classifiers.routers import CANDIDATES

    average = {"average": CANDIDATES["average"]}
    results, model, chosen = evaluate(table, table, PRICES, {}, candidates=average)
    assert set(results) == {"router", "random", "prompt_length", "domain_prior", "zero_router", "best_single"}
    assert set(results["router"]) == {
        "apgr", "cpt50", "cpt80", "aiq", "saving_95", "saving_99", "aiq_over_zero_router", "ece", "brier_skill", "decision_us",
    }  # fmt: skip
    assert (model.models, chosen) == (("small", "big"), "average")
    assert results["router"]["apgr"]["value"] > 0.6 > results["random"]["apgr"]["value"]
    with pytest.raises(InvalidInput, match="at least 20 prompts to learn from, got 10"):
        evaluate(table.take(range(10)), table, PRICES, {}, candidates=average)
