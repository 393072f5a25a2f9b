"""How far predicted probabilities can be believed.

Notation: n predictions p in 0..1 and outcomes y in 0..1; B equal-mass bins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BINS = 15


def calibration_error(p: FloatArray, y: FloatArray, *, bins: int = BINS) -> float | None:
    """Return the debiased calibration error over equal-mass bins, or None with fewer than two predictions a bin.

    √max(0, Σ_b (n_b / n) · [(p̄_b − ȳ_b)² − s²_b / n_b]) with s²_b the sample variance of y in the bin: the plug-in estimate is biased
    upwards by the noise of ȳ_b, which is subtracted (Kumar, Liang & Ma 2019, "Verified Uncertainty Calibration"). Being a root mean square,
    it is never below the mean absolute error of the same bins.
    """
    if len(p) < 2 * bins:
        return None
    total = 0.0
    for rows in np.array_split(np.argsort(p, kind="stable"), bins):
        gap = float(p[rows].mean() - y[rows].mean())
        total += len(rows) / len(p) * (gap**2 - float(y[rows].var(ddof=1)) / len(rows))
    return float(np.sqrt(max(0.0, total)))


def brier_skill(p: FloatArray, y: FloatArray, reference: FloatArray) -> float | None:
    """Return 1 − Σ(p − y)² / Σ(reference − y)²: above zero is better than the reference (Brier 1950); None where that is perfect."""
    base = float(((reference - y) ** 2).mean())
    return None if base == 0.0 else 1.0 - float(((p - y) ** 2).mean()) / base


def top_label(probabilities: FloatArray, labels: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return the confidence of the predicted class, shape (n,), and whether it was right, of class probabilities (n, C)."""
    chosen = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(labels)), chosen], (chosen == labels).astype(np.float64)


def brier_skill_classes(probabilities: FloatArray, labels: npt.NDArray[np.int64]) -> float | None:
    """Return the multi-class Brier skill over always predicting the class shares of the same labels; arguments (n, C) and (n,)."""
    truth = np.eye(probabilities.shape[1])[labels]
    base = float(((truth.mean(axis=0) - truth) ** 2).sum(axis=1).mean())
    return None if base == 0.0 else 1.0 - float(((probabilities - truth) ** 2).sum(axis=1).mean()) / base
