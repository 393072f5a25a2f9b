"""Judges class predictions: accuracy, F1 by class, calibration, and what trivial baselines get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from experiments.calibration import brier_skill_classes, calibration_error, top_label

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def judge(probabilities: FloatArray, labels: IntArray, classes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of probabilities (n, C) against class numbers (n,).

    Macro-F1 is the mean over the classes that occur in the labels; a class that is never predicted counts as F1 = 0.
    """
    predicted = probabilities.argmax(axis=1)
    occurring = np.unique(labels)
    precision, recall, f1, n = _per_class(labels, predicted)
    confidence, right = top_label(probabilities, labels)
    per_class = {
        classes[c]: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(k)}
        for c, p, r, f, k in zip(occurring.tolist(), precision, recall, f1, n, strict=True)
    }
    return {
        "accuracy": float(right.mean()),
        "macro_f1": float(np.mean(f1)),
        "ece": calibration_error(confidence, right),
        "brier_skill": brier_skill_classes(probabilities, labels),
        "per_class": per_class,
    }


def trivial_baselines(
    texts: Sequence[str], labels: IntArray, *, folds: int = 5, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return accuracy and macro-F1 of the majority class and of a logistic regression on the prompt's length alone, out of fold."""
    length = np.log1p([[len(text), len(text.split()), text.count("\n")] for text in texts])
    model = LogisticRegression(max_iter=1000)
    by_length = cross_val_predict(model, length, labels, cv=StratifiedKFold(folds, shuffle=True, random_state=seed))
    majority = np.full(len(labels), np.bincount(labels).argmax())
    return {
        name: _simple(np.asarray(guess), labels) for name, guess in (("majority", majority), ("length_only", by_length))
    }


def _simple(predicted: IntArray, labels: IntArray) -> dict[str, float]:
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(np.mean(_per_class(labels, predicted)[2])),
    }


def _per_class(labels: IntArray, predicted: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    score: Any = metrics.precision_recall_fscore_support  # the stubs know no number for zero_division
    return score(labels, predicted, labels=np.unique(labels), zero_division=0.0)
