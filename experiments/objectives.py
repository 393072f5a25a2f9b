"""What tuning makes better: cross-validated quality of a classifier or a router, as a function of plain values.

Objectives are frozen records, so that a process pool can send them to its workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from classifiers import routers, tasks
from classifiers.search_spaces import router_params, task_params
from experiments.router_metrics import area_under_hull, upper_hull
from modelyard.outcomes import OutcomeMatrix
from modelyard.predictors.calibration import FloatArray


class Objective(Protocol):
    """Maps values of a search space to metrics."""

    def __call__(self, values: Mapping[str, Any]) -> Mapping[str, float]:
        """Return metrics by name."""
        ...


@dataclass(frozen=True, slots=True)
class TaskObjective:
    """Out-of-fold quality of a task classifier: `log_loss` and `macro_f1`, the mean over its heads, and both a head.

    Attributes:
        texts: n prompts.
        labels: n labels, a head.
        folds: Of the cross-validation.
        seed: Of folds and trees.
    """

    texts: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    folds: int = 5
    seed: int = 0

    def __call__(self, values: Mapping[str, Any]) -> Mapping[str, float]:
        """Cross-validate one candidate."""
        found = tasks.cross_validate(self.texts, self.labels, task_params(values), folds=self.folds, seed=self.seed)
        losses = {name: head.log_loss for name, head in found.items()}
        scores = {name: macro_f1(head) for name, head in found.items()}
        return {
            "log_loss": float(np.mean(list(losses.values()))),
            "macro_f1": float(np.mean(list(scores.values()))),
            **{f"log_loss.{name}": value for name, value in losses.items()},
            **{f"macro_f1.{name}": value for name, value in scores.items()},
        }


@dataclass(frozen=True, slots=True)
class RouterObjective:
    """Out-of-fold quality of a router on the prompts that every model answered.

    `quality` is the mean score over trade-offs between score and cost (AIQ) or, where all models cost the same, the score reached by always
    taking the model predicted best; `error` the mean squared error of predicted score differences between pairs of models.

    Attributes:
        matrix: Outcomes of n prompts and m models.
        costs: USD, shape (n, m).
        folds: Of the cross-validation.
        seed: Of folds and trees.
    """

    matrix: OutcomeMatrix
    costs: FloatArray
    folds: int = 5
    seed: int = 0

    def __call__(self, values: Mapping[str, Any]) -> Mapping[str, float]:
        """Train one candidate and judge its out-of-fold predictions."""
        params = router_params(values)
        prepared = routers.prepare(self.matrix, params, folds=self.folds, seed=self.seed)
        _, predictions = routers.train(prepared, params, seed=self.seed)
        whole = ~np.isnan(self.matrix.scores).any(axis=1)
        return route_quality(predictions[whole], self.matrix.scores[whole], self.costs[whole])


def macro_f1(head: tasks.OutOfFold) -> float:
    """Return the mean F1 over classes; a class that is neither there nor predicted does not occur (classes come from the labels)."""
    predicted = head.probabilities.argmax(axis=1)
    scores: list[float] = []
    for c in range(len(head.classes)):
        hits = int(((predicted == c) & (head.labels == c)).sum())
        scores.append(2.0 * hits / int((predicted == c).sum() + (head.labels == c).sum()))
    return float(np.mean(scores))


def route_quality(predictions: FloatArray, scores: FloatArray, costs: FloatArray) -> dict[str, float]:
    """Return `quality`, `score` of the model predicted best, and `error`; all arguments have shape (n, m)."""
    rows = np.arange(len(scores))
    best = float(scores[rows, predictions.argmax(axis=1)].mean())
    points = [(predictions - weight * costs).argmax(axis=1) for weight in routers.cost_weights(predictions, costs)]
    hull = upper_hull(
        np.array([costs[rows, chosen].mean() for chosen in points]),
        np.array([scores[rows, chosen].mean() for chosen in points]),
    )
    area = area_under_hull(hull, costs.mean(axis=0), scores.mean(axis=0))
    pairs = [(i, j) for i in range(scores.shape[1]) for j in range(i)]
    gaps = [(predictions[:, i] - predictions[:, j]) - (scores[:, i] - scores[:, j]) for i, j in pairs]
    return {"quality": area if np.isfinite(area) else best, "score": best, "error": float(np.mean(np.square(gaps)))}
