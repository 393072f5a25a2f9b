from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression

from classifiers import linear
from classifiers.linear import fit_linear
from modelyard.predictors import Linear, softmax

rng = np.random.default_rng(0)
SPARSE = csr_matrix((rng.random((120, 6)) < 0.4).astype(np.float32))
DENSE = rng.normal(size=(120, 2))
LABELS = np.argmax(np.column_stack([DENSE, np.asarray(SPARSE.todense())[:, 0]]), axis=1)


def probabilities(found: Linear) -> np.ndarray:
    return softmax(found.many(SPARSE, DENSE))


def test_three_classes_are_scikit_learns_multinomial_regression() -> None:
    x = hstack([SPARSE, csr_matrix(DENSE.astype(np.float32))]).tocsr()
    reference = LogisticRegression(C=2.0, max_iter=200, tol=1e-3).fit(x, LABELS).predict_proba(x)
    np.testing.assert_allclose(probabilities(fit_linear(SPARSE, DENSE, LABELS, 3, strength=2.0)), reference, atol=1e-4)


def test_two_classes_get_opposite_halves_of_one_row_of_weights() -> None:
    labels = (LABELS == 1).astype(np.int64)
    found = fit_linear(SPARSE, DENSE, labels, 2, strength=2.0)
    np.testing.assert_allclose(found.sparse[:, 0], -found.sparse[:, 1])
    np.testing.assert_allclose(found.dense[:, 0], -found.dense[:, 1])
    assert found.bias[0] == pytest.approx(-found.bias[1])
    x = hstack([SPARSE, csr_matrix(DENSE.astype(np.float32))]).tocsr()
    reference = LogisticRegression(C=2.0, solver="liblinear", max_iter=200, tol=1e-3).fit(x, labels)
    np.testing.assert_allclose(probabilities(found), reference.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize("present", [(0, 2), (1,), (0, 1, 3)])
def test_class_without_an_example_is_never_likely(present: tuple[int, ...]) -> None:
    labels = np.array(present)[LABELS % len(present)]
    found = probabilities(fit_linear(SPARSE, DENSE, labels, 4, strength=1.0))
    absent = [c for c in range(4) if c not in present]
    assert found[:, absent].max() < 1e-4
    assert set(found.argmax(axis=1)) <= set(present)


def test_only_class_is_certain() -> None:
    found = fit_linear(SPARSE, DENSE, np.full(120, 1), 3, strength=1.0)
    assert not found.sparse.any()
    assert found.bias.tolist() == [-20.0, 0.0, -20.0]


def test_very_many_weights_are_fitted_class_by_class_and_rank_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    together = probabilities(fit_linear(SPARSE, DENSE, LABELS, 3, strength=2.0))
    monkeypatch.setattr(linear, "MULTINOMIAL_WEIGHTS", 1)
    apart = probabilities(fit_linear(SPARSE, DENSE, LABELS, 3, strength=2.0))
    assert (apart.argmax(axis=1) == together.argmax(axis=1)).mean() > 0.95
    assert not np.allclose(apart, together)


def test_strength_is_the_inverse_of_the_penalty() -> None:
    weak, strong = (fit_linear(SPARSE, DENSE, LABELS, 3, strength=c) for c in (0.01, 10.0))
    assert np.abs(weak.dense).max() < 0.3 * np.abs(strong.dense).max()
