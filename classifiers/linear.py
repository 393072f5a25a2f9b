"""Logistic regression over sparse text and dense features, as the arrays that serving evaluates."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from modelyard.predictors import Linear

FloatArray = npt.NDArray[np.float64]

# Above this many weights one multinomial fit takes minutes; one-versus-rest takes seconds and, once a temperature is fitted, ranks as well.
MULTINOMIAL_WEIGHTS = 600_000


def fit_linear(
    sparse: csr_matrix, dense: FloatArray, labels: npt.NDArray[np.int64], classes: int, *, strength: float
) -> Linear:
    """Fit scores for `classes` labels (0 … classes − 1); `strength` is the inverse L2 penalty C.

    A class without an example gets a score far below the others.
    """
    x: Any = hstack([sparse, csr_matrix(dense.astype(np.float32))]).tocsr()
    present = np.unique(labels)
    terms: int = x.shape[1] - dense.shape[1]
    weights = np.zeros((x.shape[1], classes))
    bias = np.full(classes, -20.0)
    if len(present) == 1:
        bias[present] = 0.0
    else:
        fitted, found = _fit(x, labels, len(present), strength)
        if len(present) == 2 and fitted.shape[1] == 1:  # binary: one row of weights for the second class
            fitted, found = np.hstack([-fitted / 2, fitted / 2]), np.concatenate([-found / 2, found / 2])
        weights[:, present], bias[present] = fitted, found
    return Linear(weights[:terms].astype(np.float32), weights[terms:], bias)


def _fit(x: Any, labels: npt.NDArray[np.int64], classes: int, strength: float) -> tuple[FloatArray, FloatArray]:
    if classes > 2 and classes * x.shape[1] > MULTINOMIAL_WEIGHTS:
        model: Any = OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear", tol=1e-2))
        model.fit(x, labels)
        parts = model.estimators_
        return np.column_stack([p.coef_[0] for p in parts]), np.array([p.intercept_[0] for p in parts])
    model = LogisticRegression(C=strength, solver="lbfgs" if classes > 2 else "liblinear", max_iter=200, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # 200 steps are enough: cross-validation judges, not the gradient
        model.fit(x, labels)
    return model.coef_.T, model.intercept_
