"""Squashing and calibration maps.

Each comes in two forms, for arrays and for a row of a few numbers: NumPy takes longer to be called than a row takes to compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_EDGE = 1e-4


def sigmoid(x: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(−x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def sigmoid_row(x: Sequence[float]) -> list[float]:
    """Return `sigmoid` of a few numbers."""
    return [0.5 * (1.0 + math.tanh(0.5 * value)) for value in x]


def logit(p: FloatArray) -> FloatArray:
    """Return ln(p / (1 − p)) of probabilities pulled away from 0 and 1 by 1e-4."""
    p = np.minimum(np.maximum(p, _EDGE), 1.0 - _EDGE)
    return np.log(p) - np.log1p(-p)


def _logit(p: float) -> float:
    p = _EDGE if p < _EDGE else min(p, 1.0 - _EDGE)
    return math.log(p) - math.log1p(-p)


def softmax(x: FloatArray) -> FloatArray:
    """Return exp(x) / Σ exp(x) along the last axis."""
    e = np.exp(x - np.maximum.reduce(x, axis=-1, keepdims=True))
    return e / np.add.reduce(e, axis=-1, keepdims=True)


def softmax_row(x: Sequence[float]) -> list[float]:
    """Return `softmax` of a few numbers."""
    most = max(x)
    e = [math.exp(value - most) for value in x]
    total = sum(e)
    return [value / total for value in e]


@dataclass(frozen=True, slots=True)
class Platt:
    """Per-column calibration σ(slope · logit(p) + intercept) (Platt 1999, on the logit as in Kull et al. 2017); strictly monotone.

    Attributes:
        slope, intercept: shape (m,).
    """

    slope: FloatArray
    intercept: FloatArray

    def __call__(self, p: FloatArray) -> FloatArray:
        """Map predictions of shape (…, m) to calibrated ones."""
        return sigmoid(self.slope * logit(p) + self.intercept)

    def row(self, p: Sequence[float]) -> list[float]:
        """Map the predictions of one text, of length m, to calibrated ones."""
        maps = zip(p, self.slope.tolist(), self.intercept.tolist(), strict=True)
        return sigmoid_row([slope * _logit(value) + intercept for value, slope, intercept in maps])

    @classmethod
    def identity(cls, columns: int) -> Platt:
        """Return the map that changes nothing."""
        return cls(np.ones(columns), np.zeros(columns))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object."""
        return {}, {"slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Platt:
        """Rebuild from `state`."""
        return cls(arrays["slope"], arrays["intercept"])
