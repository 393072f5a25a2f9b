"""The small runtime gives the numbers of the libraries that grew the trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from classifiers import trees as growing
from classifiers.trees import TreeParams, booster_library, fit_classes, fit_regression, stack_outputs
from modelyard.predictors import Trees

PARAMS = TreeParams(rounds=25, learning_rate=0.1, leaves=7, depth=4, min_leaf=5, columns=1.0, l2=1.0)
LIBRARIES = ["lightgbm", "hist-gradient-boosting"]
LIGHTGBM = "LightGBM, or the system library libgomp that it needs,"


def table(rows: int = 400) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features with ties and zeros; a smooth target; three classes."""
    x = np.random.default_rng(7).normal(size=(rows, 5))
    x[:, 1] = np.round(x[:, 1])
    x[:, 2] = np.where(x[:, 2] > 0, x[:, 2], 0.0)
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    return x, y, np.digitize(y, [-0.5, 0.5])


def unseen() -> np.ndarray[Any, Any]:
    return np.vstack([table(1200)[0], np.zeros((1, 5)), np.full((1, 5), 1e30), np.full((1, 5), -1e30)])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine the threads of scikit-learn's trees wait for each other for minutes."""
    import sklearn.ensemble  # noqa: F401  (its OpenMP library must be loaded to be limited)

    with threadpool_limits(1):
        yield


@pytest.fixture(params=LIBRARIES)
def library(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, require_service: Callable[[str, object], None]
) -> str:
    require_service(LIGHTGBM, request.param != "lightgbm" or booster_library().startswith("lightgbm"))
    monkeypatch.setattr(growing, "booster_library", lambda: request.param)
    return request.param


@pytest.mark.parametrize("objective", ["regression", "binary"])
def test_trees_predict_what_lightgbm_predicts(objective: str, require_service: Callable[[str, object], None]) -> None:
    require_service(LIGHTGBM, booster_library().startswith("lightgbm"))
    import lightgbm

    x, y, _ = table()
    target = y if objective == "regression" else (y > 0).astype(float)
    settings = {"objective": objective, "num_leaves": 7, "verbosity": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, target), num_boost_round=25)
    ours = growing._from_lightgbm(booster, np.zeros(1))

    np.testing.assert_allclose(ours(unseen())[:, 0], booster.predict(unseen(), raw_score=True), rtol=1e-9, atol=1e-12)


def test_trees_predict_what_histogram_gradient_boosting_predicts() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x, y, _ = table()
    regressor = HistGradientBoostingRegressor(max_iter=25, random_state=1).fit(x, y)
    classifier = HistGradientBoostingClassifier(max_iter=25, random_state=1).fit(x, y > 0)

    np.testing.assert_allclose(growing._from_hist(regressor)(unseen())[:, 0], regressor.predict(unseen()), atol=1e-9)
    np.testing.assert_allclose(
        growing._from_hist(classifier)(unseen())[:, 0], classifier.decision_function(unseen()), atol=1e-9
    )


def test_regression_learns_the_target(library: str) -> None:
    x, y, _ = table()
    predicted = fit_regression(x, y, PARAMS, seed=0)(x)

    assert predicted.shape == (len(x), 1)
    assert np.mean((predicted[:, 0] - y) ** 2) < 0.3 * np.var(y)


def test_classes_learn_their_labels_and_an_absent_class_is_never_likely(library: str) -> None:
    x, _, labels = table()
    labels = np.where(labels == 1, 3, labels)  # class 1 has no example
    scores = fit_classes(x, labels, 4, PARAMS, seed=0)(x)

    assert scores.shape == (len(x), 4)
    assert np.mean(scores.argmax(axis=1) == labels) > 0.8
    assert (scores[:, 1] < -10.0).all()


def test_refit_grows_the_same_trees(library: str) -> None:
    x, y, _ = table()
    one, other = (fit_regression(x, y, PARAMS, seed=4)(unseen()) for _ in range(2))

    np.testing.assert_array_equal(one, other)


def test_single_class_needs_no_trees() -> None:
    scores = fit_classes(table()[0], np.full(400, 2), 3, PARAMS, seed=0)(unseen())

    np.testing.assert_array_equal(scores, np.tile([-20.0, -20.0, 0.0], (len(unseen()), 1)))


def test_stacked_outputs_stand_side_by_side() -> None:
    x, y, _ = table()
    parts = [fit_regression(x, target, PARAMS, seed=0) for target in (y, -y)]

    np.testing.assert_allclose(stack_outputs(parts)(x), np.hstack([grown(x) for grown in parts]), atol=1e-12)


def test_rows_predict_the_same_alone_and_in_a_long_table() -> None:
    x, _, labels = table(1200)
    grown = fit_classes(x, labels, 3, PARAMS, seed=0)
    alone = np.vstack([grown(row[None, :]) for row in x[500:530]])

    np.testing.assert_allclose(grown(x)[500:530], alone, atol=1e-12)
    assert grown(x[:0]).shape == (0, 3)


@pytest.mark.parametrize(("leaves", "depth"), [(2, 1), (7, 4), (15, 6), (31, 9), (64, 20), (120, 30)])
def test_single_row_scores_as_in_a_table(leaves: int, depth: int) -> None:
    x, y, _ = table(1000)
    params = replace(PARAMS, rounds=5, leaves=leaves, depth=depth, min_leaf=1)
    grown = [fit_regression(x, sign * y, params, seed=0) for sign in (1, -1)]
    both = Trees.beside([grown[0], stack_outputs(grown)])
    rows = unseen()[::20]

    assert (both._quick is None) == (leaves > 64)
    np.testing.assert_allclose([both.one(row) for row in rows], both(rows), rtol=0, atol=1e-12)
    np.testing.assert_allclose(both(rows), np.hstack([grown[0](rows), stack_outputs(grown)(rows)]), rtol=0, atol=1e-12)


def test_row_on_a_threshold_goes_left() -> None:
    grown = fit_regression(*table()[:2], PARAMS, seed=0)
    row = np.zeros(5)
    for split in np.flatnonzero(grown.left != np.arange(len(grown.left))):
        row[grown.feature[split]] = grown.threshold[split]
        np.testing.assert_allclose(grown.one(row), grown(row[None, :])[0], rtol=0, atol=1e-12)


def test_trees_of_a_single_leaf_and_no_trees_at_all_score_a_row_too() -> None:
    x = table()[0]
    stumps = fit_regression(x, np.ones(len(x)), PARAMS, seed=0)
    none = fit_classes(x, np.full(len(x), 2), 3, PARAMS, seed=0)
    both = Trees.beside([stumps, none])

    np.testing.assert_allclose(both.one(x[0]), both(x[:1])[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(none.one(x[0]), [-20.0, -20.0, 0.0])


def test_state_rebuilds_the_trees() -> None:
    x, y, _ = table()
    grown = fit_regression(x, y, PARAMS, seed=0)

    np.testing.assert_array_equal(Trees.from_state(*grown.state())(x), grown(x))


def test_outputs_without_trees_stand_between_those_with_some() -> None:
    x, y, _ = table()
    grown = fit_regression(x, y, PARAMS, seed=0)
    all_of_them = Trees.beside([Trees.none(2), grown, Trees.none(1), grown])

    scores = all_of_them.one(x[0])
    np.testing.assert_allclose(scores, all_of_them(x[:1])[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores, [0.0, 0.0, *grown(x[:1])[0], 0.0, *grown(x[:1])[0]], rtol=0, atol=1e-12)
