"""Evaluates the learned router against baselines on a test table it has not seen.

Notation as in `experiments.router_metrics`: n test prompts, m models (cheapest first), predictions of shape (n, m).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.routers import CANDIDATES, RouterParams, cost_weights, select
from experiments import baselines
from experiments.calibration import brier_skill, calibration_error
from experiments.router_metrics import (
    Curves,
    Estimate,
    Singles,
    area_under_hull,
    curve_of_choices,
    curve_of_singles,
    gain_curve_metrics,
    per_resample,
    quality_metrics,
    resampling_weights,
    summarise,
    undefined,
)
from modelyard.catalog import BaseModel, Price, realised_costs
from modelyard.outcomes import OutcomeMatrix
from modelyard.routing import LearnedPolicy, RouterModel
from modelyard.tasks import RuleClassifier
from modelyard.types import Message

FloatArray = npt.NDArray[np.float64]

TIMED = 500  # prompts whose decision is timed


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that is known of the test prompts when predictions are judged.

    Attributes:
        matrix: Complete test outcomes.
        costs: What each answer cost in USD, shape (n, m).
        mean_costs: What each model's answer of mean length would cost for each prompt, shape (n, m).
        weights: W.
        singles: The single models in every resample.
    """

    matrix: OutcomeMatrix
    costs: FloatArray
    mean_costs: FloatArray
    weights: FloatArray
    singles: Singles
    seed: int

    @classmethod
    def of(
        cls,
        matrix: OutcomeMatrix,
        prices: Mapping[str, Price],
        known: Mapping[str, BaseModel],
        output_tokens: FloatArray,
        *,
        seed: int,
    ) -> Evaluation:
        """Price the outcomes and draw the resamples."""
        costs = realised_costs(matrix, prices, known)
        weights = resampling_weights(len(matrix), seed=seed)
        mean_costs = expected_costs(matrix, prices, np.tile(output_tokens, (len(matrix), 1)))
        return cls(matrix, costs, mean_costs, weights, Singles.of(matrix.scores, costs, weights), seed)

    def judge(self, predictions: FloatArray, expected: FloatArray | None = None) -> dict[str, Estimate]:
        """Return every metric of a router that predicts these scores, and these costs where it predicts costs."""
        return {**self._gain(predictions), **quality_metrics(self.curve(predictions, expected), self.singles)}

    def curve(self, predictions: FloatArray, expected: FloatArray | None = None) -> Curves:
        """Return the cost–score points over all λ."""
        expected = self.mean_costs if expected is None else expected
        grid = cost_weights(predictions, expected)
        choices = np.stack([(predictions - weight * expected).argmax(axis=1) for weight in grid])
        return curve_of_choices(choices, self.matrix.scores, self.costs, self.weights)

    def over_zero(self, predictions: FloatArray, expected: FloatArray | None = None) -> Estimate:
        """Return AIQ minus the zero router's, paired over resamples."""
        mine = per_resample(self.curve(predictions, expected), self.singles, area_under_hull)
        zero = per_resample(curve_of_singles(self.singles), self.singles, area_under_hull)
        return summarise(mine - zero, "all single models cost the same")

    def random(self) -> dict[str, Estimate]:
        """Return the expected metrics of a router that sends a random share of the calls from the cheapest to the dearest model."""
        ends = [0, len(self.matrix.models) - 1]
        line = Curves(self.singles.costs[:, ends], self.singles.scores[:, ends])
        # Exact expectation: at any share of random calls the recovered gap is that share.
        known: dict[str, Estimate] = {}
        if len(self.matrix.models) == 2:
            known = {
                name: {"value": value, "ci95": [value, value]}
                for name, value in (("apgr", 0.5), ("cpt50", 0.5), ("cpt80", 0.8))
            }
        return {**known, **quality_metrics(line, self.singles)}

    def zero_router(self) -> dict[str, Estimate]:
        """Return the metrics of the hull of the single models: the best that mixing without reading the prompt can do."""
        return {**self._same_as_random(), **quality_metrics(curve_of_singles(self.singles), self.singles)}

    def best_single(self) -> dict[str, Estimate]:
        """Return what the best single model gives: one point, so that areas and thresholds are undefined."""
        best = int(self.singles.scores[0].argmax())
        point = Curves(self.singles.costs[:, [best]], self.singles.scores[:, [best]])
        found = quality_metrics(point, self.singles)
        reason = f"a single model ({self.matrix.models[best]}) is one point, not a trade-off"
        gain = {name: undefined(reason) for name in ("apgr", "cpt50", "cpt80")} if len(self.matrix.models) == 2 else {}
        return {**gain, **found, "aiq": undefined(reason), "score": summarise(self.singles.scores[:, best], reason)}

    def _same_as_random(self) -> dict[str, Estimate]:
        return {k: v for k, v in self.random().items() if k in ("apgr", "cpt50", "cpt80")}

    def _gain(self, predictions: FloatArray) -> dict[str, Estimate]:
        if len(self.matrix.models) != 2:
            return {}
        scores = self.matrix.scores
        return gain_curve_metrics(
            predictions[:, 1] - predictions[:, 0], scores[:, 0], scores[:, 1], self.weights, seed=self.seed
        )


def evaluate(
    train: OutcomeMatrix,
    test: OutcomeMatrix,
    prices: Mapping[str, Price],
    known: Mapping[str, BaseModel],
    *,
    candidates: Mapping[str, RouterParams] = CANDIDATES,
    seed: int = 0,
) -> tuple[dict[str, Any], RouterModel, str]:
    """Train on one outcome matrix and judge on another.

    Returns:
        The results by router name, the trained router, and the name of the candidate that cross-validation chose.
    """
    selection = select(train, candidates, seed=seed)
    chosen, router = selection.name, selection.router
    evaluation = Evaluation.of(test, prices, known, router.output_tokens, seed=seed)
    results: dict[str, Any] = {"router": judge_router(evaluation, router, prices)}
    results["random"] = evaluation.random()
    results["prompt_length"] = evaluation.judge(baselines.prompt_length(train, test.prompts))
    results["domain_prior"] = evaluation.judge(
        baselines.domain_prior(train, test.prompts, candidates[chosen], seed=seed)
    )
    results["zero_router"] = evaluation.zero_router()
    results["best_single"] = evaluation.best_single()
    return results, router, chosen


def judge_router(evaluation: Evaluation, router: RouterModel, prices: Mapping[str, Price]) -> dict[str, Any]:
    """Return the learned router's metrics, its calibration and the time of a decision."""
    matrix = evaluation.matrix
    predictions, tokens = router.forecast(matrix.prompts)
    expected = expected_costs(matrix, prices, tokens)
    p, y = predictions.ravel(), matrix.scores.ravel()
    base = np.broadcast_to(matrix.scores.mean(axis=0), matrix.scores.shape).ravel()
    return {
        **evaluation.judge(predictions, expected),
        "aiq_over_zero_router": evaluation.over_zero(predictions, expected),
        "ece": calibration_error(p, y),
        "brier_skill": brier_skill(p, y, base),
        "decision_us": time_decisions(router, matrix.prompts[:TIMED], prices),
    }


def expected_costs(matrix: OutcomeMatrix, prices: Mapping[str, Price], output_tokens: FloatArray) -> FloatArray:
    """Return what answers of these lengths in tokens would cost, in USD; both of shape (n, m)."""
    prompt_tokens = matrix.prompt_tokens
    columns = [
        prices[name].request + (prices[name].input * prompt_tokens + prices[name].output * output_tokens[:, j]) / 1e6
        for j, name in enumerate(matrix.models)
    ]
    return np.column_stack(columns)


def time_decisions(router: RouterModel, prompts: Sequence[str], prices: Mapping[str, Price]) -> dict[str, float]:
    """Return p50 and p99 of one routing decision, in microseconds."""
    policy, classifier = LearnedPolicy(router), RuleClassifier()
    candidates = [BaseModel(name, "recorded", prices[name]) for name in router.models]
    taken: list[float] = []
    for prompt in prompts:
        message = Message.of(prompt)
        task = classifier.classify(message)
        start = time.perf_counter()
        policy.route(message, task, candidates)
        taken.append((time.perf_counter() - start) * 1e6)
    return {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))}
