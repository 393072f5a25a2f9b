from __future__ import annotations

import numpy as np
import pytest

from classifiers.tasks import OutOfFold
from experiments.objectives import macro_f1, route_quality

rng = np.random.default_rng(2)


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    probabilities = rng.dirichlet(np.ones(3), 200)
    labels = rng.integers(0, 3, 200)
    found = macro_f1(OutOfFold(("a", "b", "c"), labels, probabilities, 1.0))
    assert found == pytest.approx(f1_score(labels, probabilities.argmax(axis=1), average="macro"))


def test_better_predictions_route_better() -> None:
    scores = rng.random((400, 3))
    costs = np.tile([0.001, 0.002, 0.004], (400, 1))
    perfect = route_quality(scores, scores, costs)
    noisy = route_quality(scores + rng.normal(0, 0.5, scores.shape), scores, costs)
    blind = route_quality(rng.random((400, 3)), scores, costs)
    assert perfect["quality"] > noisy["quality"] > blind["quality"]
    assert perfect["error"] == 0.0 < noisy["error"]
    assert perfect["score"] == pytest.approx(scores.max(axis=1).mean())


def test_models_of_equal_cost_are_judged_by_score() -> None:
    scores = rng.random((50, 2))
    found = route_quality(scores, scores, np.ones((50, 2)))
    assert found["quality"] == found["score"]
